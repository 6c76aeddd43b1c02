#!/usr/bin/env bash
# Fills deploy/secrets/ with random passwords for docker-compose.yml. Existing files stay as they are.
set -euo pipefail
cd "$(dirname "$0")"
umask 022
mkdir -p secrets

random() { head -c 24 /dev/urandom | base64 | tr -d '+/=\n'; }
keep() { [ -s "secrets/$1" ] || printf '%s' "$2" > "secrets/$1"; }

keep postgres_password "$(random)"
keep mongodb_password "$(random)"
if [ ! -s secrets/rabbitmq_user.conf ]; then
  password=$(random)
  printf 'default_user = sluice\ndefault_pass = %s\n' "$password" > secrets/rabbitmq_user.conf
  printf 'amqp://sluice:%s@rabbitmq:5672/%%2f' "$password" > secrets/rabbitmq_url
fi
keep postgres_url "postgres://sluice:$(cat secrets/postgres_password)@postgres:5432/sluice"
keep mongodb_url "mongodb://sluice:$(cat secrets/mongodb_password)@mongodb:27017/sluice?authSource=admin"
# What the stand-in vendors expect; not secret.
keep standin_yardi_password yardi-standin-password
keep standin_yardi_license c3RhbmQtaW4gbGljZW5jZSBmb3IgU2x1aWNlLCBub3QgYSByZWFsIG9uZQ==
keep standin_one_secret one-standin-secret
keep standin_lessen360_secret lessen360-standin-secret
echo "deploy/secrets is ready; docker compose up --build"
