"""What a team would write first: one record at a time into MongoDB, PostgreSQL and RabbitMQ."""

import hashlib
import json
import sys
import time
import urllib.request

import pika
import psycopg
import pymongo

source, postgres, mongodb, database, rabbitmq, queue, records = sys.argv[1:8]

raw = pymongo.MongoClient(mongodb)[database]["raw"]
raw.create_index([("sourceId", 1), ("hash", 1)])
db = psycopg.connect(postgres, autocommit=False)
with db.cursor() as cursor:
    cursor.execute("create table script_master (id bigint generated always as identity primary key,"
                   " source_id text not null unique, hash text not null, version integer not null)")
    cursor.execute("create table script_versions (master_id bigint, version integer, data json,"
                   " primary key (master_id, version))")
    cursor.execute("create table script_tasks (id bigint generated always as identity primary key,"
                   " master_id bigint unique, state text not null)")
db.commit()
connection = pika.BlockingConnection(pika.URLParameters(rabbitmq))
channel = connection.channel()
channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
channel.confirm_delivery()

started = time.perf_counter()
cpu = time.process_time()
done = offset = 0
while done < int(records):
    with urllib.request.urlopen(f"{source}/records?offset={offset}&limit=1000") as answer:
        page = json.load(answer)["records"]
    if not page:
        break
    offset += len(page)
    for record in page[: int(records) - done]:
        text = json.dumps(record, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        raw.insert_one({"sourceId": record["id"], "hash": digest, "rawData": record})
        with db.cursor() as cursor:
            cursor.execute("select id, hash, version from script_master where source_id = %s for update",
                           (record["id"],))
            row = cursor.fetchone()
            if row is None:
                cursor.execute("insert into script_master (source_id, hash, version) values (%s, %s, 1) returning id",
                               (record["id"], digest))
                master, version = cursor.fetchone()[0], 1
            elif row[1] == digest:
                db.commit()
                done += 1
                continue
            else:
                master, version = row[0], row[2] + 1
                cursor.execute("update script_master set hash = %s, version = %s where id = %s",
                               (digest, version, master))
            cursor.execute("insert into script_versions values (%s, %s, %s)", (master, version, text))
            cursor.execute("insert into script_tasks (master_id, state) values (%s, 'staged')"
                           " on conflict (master_id) do update set state = 'staged' returning id", (master,))
            task = cursor.fetchone()[0]
        db.commit()
        channel.basic_publish("", queue, json.dumps({"task": task, "data": record}),
                              pika.BasicProperties(delivery_mode=2), mandatory=True)
        done += 1
print(json.dumps({"records": done, "seconds": time.perf_counter() - started,
                  "cpu_seconds": time.process_time() - cpu}))
connection.close()
