import { parseArgs } from 'node:util'
import { type Call, type Command, commands } from './admin/commands.ts'
import { Engines } from './admin/engines.ts'
import { loadConfig } from './config.ts'
import { ClientError, DatabaseUnavailable } from './errors/catalogue.ts'
import { StartError } from './lib/start-error.ts'
import { reasonOf } from './lib/reason.ts'

// `npm run admin -- COMMAND`, in the image `node dist/src/admin.js COMMAND`: what the operator can
// do with accounts. It reads the configuration of the service, and works while the service runs.

const USAGE = `Usage: npm run admin -- COMMAND        in the image: node dist/src/admin.js COMMAND

  role NICK ROLE            give a role: member, moderator or admin
  ban NICK [--until T] [--reason R]
                            ban a user and end all sessions. T is a time such as
                            2026-01-31T12:00:00Z; without it the ban is permanent
  unban NICK                lift the ban or the mute of a user
  reset-password NICK       set a random password and print it, end all sessions,
                            and revoke all API tokens
  sessions end NICK         end all sessions of a user
  list                      list everyone who has a role or a restriction

It reads the same environment variables as the service. Put a nickname that begins with "-"
after "--".`

const SEE_HELP = '--help lists the commands'

function parse(args: string[]): { positionals: string[]; options: Call['options'] & { help?: boolean } } {
  try {
    const { positionals, values } = parseArgs({
      args,
      allowPositionals: true,
      options: {
        help: { type: 'boolean', short: 'h' },
        until: { type: 'string' },
        reason: { type: 'string' }
      }
    })
    return { positionals, options: values }
  } catch (error) {
    throw new StartError(reasonOf(error).replaceAll('\n', ' '), { cause: error })
  }
}

/** Finds the command whose words the arguments begin with. @returns it, and what follows */
function findCommand(positionals: string[]): { command: Command; values: string[] } {
  for (const command of commands) {
    const words = command.name.split(' ')
    if (words.every((word, i) => positionals[i] === word)) {
      return { command, values: positionals.slice(words.length) }
    }
  }
  const [name] = positionals
  throw new StartError(
    name === undefined ? `no command given: ${SEE_HELP}` : `unknown command ${name}: ${SEE_HELP}`
  )
}

/** @returns what to print */
async function run(args: string[]): Promise<string> {
  const { positionals, options } = parse(args)
  const { help, ...given } = options
  if (help) return USAGE
  const { command, values } = findCommand(positionals)
  if (values.length !== command.parameters.length) {
    throw new StartError(`usage: ${[command.name, ...command.parameters].join(' ')}; ${SEE_HELP}`)
  }
  for (const name of ['until', 'reason'] as const) {
    if (given[name] !== undefined && !command.options.includes(name)) {
      throw new StartError(`${command.name} does not take --${name}: ${SEE_HELP}`)
    }
  }
  const config = loadConfig(process.env)
  const engines = new Engines(config)
  try {
    return await command.run({ engines, config, values, options: given })
  } finally {
    engines.close()
  }
}

/** @throws {StartError} if the text cannot be written: without it, a new password is known to nobody */
async function print(text: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    // Not ended: that would close it for the other programs of a script as well.
    process.stdout.once('error', reject).write(`${text}\n`, (error) => (error ? reject(error) : resolve()))
  }).catch((cause: unknown) => {
    throw new StartError(`the result could not be printed, run this again: ${reasonOf(cause)}`, { cause })
  })
}

try {
  await print(await run(process.argv.slice(2)))
} catch (error) {
  process.exitCode = 1
  if (error instanceof DatabaseUnavailable) {
    console.error(`PostgreSQL failed: ${reasonOf(error.cause)}`)
  } else if (error instanceof StartError || error instanceof ClientError) {
    console.error(error.message)
  } else {
    console.error(error)
  }
}
