// What a team would write first: consume, POST, mark as done, acknowledge.
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.BENCH_NODE_MODULES}/`);
const amqp = require('amqplib');
const { Pool } = require('undici');
const pg = require('pg');

const [target, postgres, rabbitmq, queue, records] = process.argv.slice(2);
const database = new pg.Pool({ connectionString: postgres, max: 8 });
const client = new Pool(target, { connections: 64 });
const connection = await amqp.connect(rabbitmq);
const channel = await connection.createChannel();
await channel.prefetch(64);

const started = process.hrtime.bigint();
const cpu = process.cpuUsage();
let done = 0;
await new Promise((resolve, reject) => {
  channel.consume(queue, async (message) => {
    try {
      const { task, data } = JSON.parse(message.content);
      const answer = await client.request({
        path: '/records', method: 'POST', body: JSON.stringify(data),
        headers: { 'content-type': 'application/json' },
      });
      await answer.body.json();
      await database.query("update script_tasks set state = 'completed' where id = $1", [task]);
      channel.ack(message);
      done += 1;
      if (done === Number(records)) resolve();
    } catch (error) {
      reject(error);
    }
  });
});
const used = process.cpuUsage(cpu);
console.log(JSON.stringify({
  records: done,
  seconds: Number(process.hrtime.bigint() - started) / 1e9,
  cpu_seconds: (used.user + used.system) / 1e6,
}));
await connection.close();
await database.end();
process.exit(0);
