import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { createDatabase } from '../helpers/database.ts'

t.test('a service whose log is not there ends at any moment of its looking for it', async (t) => {
  const POSTGRES_DB = await createDatabase(t)
  const services = await Promise.all(
    Array.from({ length: 20 }, () => startService(t, { POSTGRES_DB, MIGRATE: 'off' }))
  )
  // A round takes it a tenth of a second and a little.
  await Promise.all(services.map(async ({ app }, i) => sleep(i * 7).then(() => app.close())))
  t.pass('all of them')
})
