# To be sourced, by .ci/fuzz, .ci/openapi and .ci/readers, in the top folder of the checkout: starts the built
# service on a free port, and stops it when the script ends. It uses the engines of POSTGRES_HOST and
# REDIS_HOST where they are set, with a database of its own, otherwise the embedded ones. Needs node.
#
# Sets: work, a temporary folder; and after start_service: SERVICE, the URL, and database, empty if embedded.

work=$(mktemp -d)
chmod 755 "$work"

# sql SQL: runs it on the server of the environment.
sql () {
  SQL=$1 node --input-type=module -e "import pg from 'pg'
    const { POSTGRES_HOST: host, POSTGRES_PORT: port, POSTGRES_DB: database } = process.env
    const { POSTGRES_USER: user, POSTGRES_PASSWORD: password } = process.env
    const client = new pg.Client({ host, port, database, user, password })
    await client.connect()
    await client.query(process.env.SQL).finally(() => client.end())"
}

stop_service () {
  cd "$checkout"
  if [ -n "${service:-}" ]; then kill "$service" && wait "$service" || true; fi
  [ -z "${database:-}" ] || sql "drop database $database with (force)"
  rm -rf "$work"
}
checkout=$PWD
trap stop_service EXIT

# start_service NAME [VARIABLE=VALUE...]: NAME begins the name of the database.
start_service () {
  local name=$1_$$
  shift
  if [ -n "${POSTGRES_HOST:-}" ]; then sql "create database $name template template0" && database=$name; fi
  env -u NODE_OPTIONS ${database:+POSTGRES_DB="$database"} DATA_DIR="$work/data" HTTP_HOST=127.0.0.1 HTTP_PORT=0 \
    "$@" node dist/src/server.js > "$work/log" 2>&1 &
  service=$!
  until SERVICE=$(sed -n 's/.*the chat is ready at \([^;]*\);.*/\1/p' "$work/log") && [ -n "$SERVICE" ]; do
    kill -0 "$service" || { cat "$work/log"; exit 1; }
    sleep 0.2
  done
  export SERVICE
}
