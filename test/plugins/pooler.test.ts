import { chmodSync, chownSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { config, createDatabase } from '../helpers/database.ts'
import { folder } from '../helpers/server.ts'
import { quiet } from '../helpers/quiet.ts'
import { stopWithParent, freePort, canRun, startProgram } from '../../src/embedded/process.ts'

const NOBODY = 65534

t.test(
  'a start behind a transaction pooler fails at once with a clear message',
  { skip: !canRun('pgbouncer', '--version') && 'there is no pgbouncer on this machine' },
  async (t) => {
    const dir = folder(t)
    chmodSync(dir, 0o755)
    const withoutSettings = 'does not pass on the settings of a connection'
    for (const [what, ignored, more, reason] of [
      ['refuses settings', 'extra_float_digits', '', withoutSettings],
      ['ignores settings', 'extra_float_digits,options', '', withoutSettings],
      [
        'passes settings on',
        'extra_float_digits,options',
        "connect_query='set plan_cache_mode = force_generic_plan'",
        'pools by transaction'
      ],
      [
        'has one connection',
        'extra_float_digits,options',
        "pool_size=1 connect_query='set plan_cache_mode = force_generic_plan'",
        'pools by transaction'
      ]
    ] as const) {
      const database = await createDatabase(t)
      const port = await freePort()
      const file = join(dir, `${port}.ini`)
      writeFileSync(
        file,
        `[databases]
* = host=${config.POSTGRES_HOST} port=${config.POSTGRES_PORT} user=${config.POSTGRES_USER} password=${config.POSTGRES_PASSWORD} ${more}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
ignore_startup_parameters = ${ignored}
`
      )
      const isRoot = process.getuid?.() === 0
      if (isRoot) chownSync(file, NOBODY, NOBODY)
      const stop = await startProgram(
        [
          ...(isRoot ? ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'] : []),
          ...stopWithParent(),
          'pgbouncer',
          file
        ],
        { name: 'PgBouncer', logFile: join(dir, `${port}.log`), ready: async () => {} },
        quiet
      )
      t.teardown(stop)
      await t.rejects(
        startService(t, {
          POSTGRES_HOST: '127.0.0.1',
          POSTGRES_PORT: port,
          POSTGRES_DB: database,
          BOOT_TIMEOUT: 10
        }),
        {
          message:
            'POSTGRES_HOST or POSTGRES_URL must point to PostgreSQL itself, because the pooler at ' +
            `127.0.0.1:${port} ${reason}`
        },
        what
      )
    }
  }
)
