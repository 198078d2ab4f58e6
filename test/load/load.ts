// `npm run load -- [COMMAND] [arguments of the command]`. Without a command: requests/s and latencies.
const COMMANDS = ['start', 'delivery', 'logins', 'soak']

const [, , given = ''] = process.argv
let command = 'requests'
if (COMMANDS.includes(given)) {
  command = given
  process.argv.splice(2, 1) // Each command parses what follows its name.
}
await import(`./${command}.ts`)
