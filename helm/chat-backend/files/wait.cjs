// `node -e <this> POSTGRES 5432` waits until something answers where POSTGRES_URL, or POSTGRES_HOST and POSTGRES_PORT, say.
const { connect } = require('node:net')
const [, engine, usualPort] = process.argv
const setting = (name) => process.env[`${engine}_${name}`]
const { hostname: host, port } = setting('URL') ? new URL(setting('URL')) : { hostname: setting('HOST'), port: setting('PORT') }
// As process 1, node would ignore a SIGTERM that it has no handler for, and a pod that waits could not be deleted at once.
process.on('SIGTERM', () => process.exit(1))
function attempt (tries) {
  const say = (text) => console.log(`${engine} at ${host}:${port || usualPort}, try ${tries}: ${text}`)
  connect({ host, port: port || usualPort, timeout: 2000 })
    .on('connect', () => { say('connected'); process.exit(0) })
    .on('timeout', function () { this.destroy(new Error('no answer in 2 s')) })
    .on('error', ({ code, message }) => { say(code || message); setTimeout(attempt, 1000, tries + 1) })
}
if (host) {
  attempt(1)
} else {
  console.log(`neither ${engine}_URL nor ${engine}_HOST is set`)
  process.exitCode = 1
}
