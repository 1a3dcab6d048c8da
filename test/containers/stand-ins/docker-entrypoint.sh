#!/bin/sh
# Makes the data folder once, with the superuser's password from POSTGRES_PASSWORD_FILE, and serves as an account of its own.
set -eu
if [ "$(id -u)" = 0 ]; then
  # Read as root, like in the official image: the file need not be readable for the server.
  POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
  export POSTGRES_PASSWORD
  mkdir -p "$PGDATA"
  chown -R postgres:postgres "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  passwords=$(mktemp)
  echo "$POSTGRES_PASSWORD" > "$passwords"
  initdb --username=postgres --pwfile="$passwords" --auth=scram-sha-256 --encoding=UTF8 > /dev/null
  rm "$passwords"
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
fi
unset POSTGRES_PASSWORD
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/tmp
