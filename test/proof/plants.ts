import { fileURLToPath } from 'node:url'
import { SIGN_FUNCTIONS } from '../../src/database/event-log-check.ts'
import type { Parts } from './faults.ts'

/** A fault of the service, or of who runs it, which the proof must find. */
export interface Plant {
  /** Runs before anybody writes. */
  sql?: string
  /** Variables of the replicas. */
  env?: Record<string, string>
  /** What the replicas run instead of the built service. */
  server?: string
  /** Happens before all other faults: one of them, by its name, or one that must not be. */
  first?: string | ((parts: Parts) => Promise<void>)
}

/** Node options that load a module before the service, which then runs from its sources. */
const preload = (source: string) => ({
  NODE_OPTIONS: `--import=${import.meta.resolve('tsx')} --import=data:text/javascript,${encodeURIComponent(source)}`
})
const SOURCE = new URL('../../src/', import.meta.url)

/** A function of the service with another text in place of one of its own. */
const replaced = (signature: string, text: string, other: string) => `
  do $planted$ begin
    execute replace(pg_get_functiondef('${signature}'::regprocedure), $old$${text}$old$, $new$${other}$new$);
  end $planted$;`

export const plants: Record<string, Plant> = {
  // Functions of triggers are marked as the service marks its own, because it would say so and repair them
  // otherwise.
  'no-lock': {
    // A delay between the id of a message and its commit is harmless only with the lock.
    sql: `create or replace function chat_event_lock () returns trigger language plpgsql as $$
        begin return null; end $$; ${SIGN_FUNCTIONS};
      create function dawdle () returns trigger language plpgsql as $$
        begin perform pg_sleep(random() * 0.02); return new; end $$;
      create trigger dawdle before insert on chat_message for each row execute function dawdle();`
  },
  'no-deletions': {
    sql: `create or replace function chat_event_deleted () returns trigger language plpgsql as $$
      begin return null; end $$; ${SIGN_FUNCTIONS}`
  },
  'deaf-to-moderators': {
    sql: replaced('chat_admit(bigint[], boolean)', 'restriction.user_id = given.id', 'false')
  },
  'no-resets': {
    sql: `create function no_reset () returns trigger language plpgsql as $$ begin return null; end $$;
      create trigger no_reset before insert on chat_event for each row when (new.kind = 'reset')
        execute function no_reset();`,
    first: 'triggers of the log put out of force'
  },
  'believes-redis': {
    server: fileURLToPath(new URL('server.ts', SOURCE)),
    // Whatever it gets seems to continue from where it stands.
    env: preload(`
      import { Timeline } from ${JSON.stringify(new URL('chat/timeline.ts', SOURCE))}
      const { parse } = JSON
      JSON.parse = (...args) => {
        const value = parse(...args)
        if (value?.entries && value.from) value.from.seq = 0 // so that nothing comes too early
        return value
      }
      const { apply } = Timeline.prototype
      Timeline.prototype.apply = function (_from, [first, ...entries]) {
        return apply.call(this, this.seq, [{ ...first, seq: this.seq, mark: undefined }, ...entries])
      }`)
  },
  'lost-writes': { first: ({ database }) => database.switchOver({ forgets: true }) },
  'lost-sessions': {
    first: async ({ sessions }) => {
      await sessions.failOver?.()
      await sessions.flush()
    }
  }
}
