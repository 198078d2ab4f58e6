import fc from 'fast-check'
import t, { type Test } from 'tap'
import type { Config } from '../../src/config.ts'
import { startService } from '../helpers/app.ts'
import { startModerated } from '../helpers/people.ts'
import { connect } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'

/** The service with a user, and ways to say and to find something. */
async function startSearch(t: Test, overrides: Partial<Config> = {}) {
  const service = await startService(t, overrides)
  const { token, userId } = await service.register()
  const client = await connect(t, service.database)
  const search = (q: string, more = '') =>
    service.call('GET', `/api/search?q=${encodeURIComponent(q)}${more}`)
  const find = async (q: string, more = ''): Promise<string[]> => {
    const { status, body } = await search(q, more)
    if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`)
    return body.map(({ text }: { text: string }) => text)
  }
  /** Resolves once all that was said before this call is indexed. */
  const indexed = async () => {
    const { body } = await service.call('POST', '/api/messages', { token, body: { text: 'zzz marker' } })
    await waitUntil('the messages are indexed', async () => {
      const { rows } = await client.query('select from chat_message_search where message_id = $1', [body.id])
      return rows.length > 0
    })
    await service.call('DELETE', `/api/messages/${body.id}`, { token })
  }
  const say = (text: string) => service.post(token, text)
  return { ...service, token, userId, client, search, find, indexed, say }
}

t.test('words are found by their stems, in English and Russian, in any case', async (t) => {
  const { find, indexed, say } = await startSearch(t)
  for (const text of ['The Cats were RUNNING', 'Рыжие кошки спят', 'Ещё одна ЁЛКА', 'foo/bar@baz.example']) {
    await say(text)
  }
  await indexed()
  for (const q of ['cat run', 'RUNS cats', 'running', 'the cats']) {
    t.strictSame(await find(q), ['The Cats were RUNNING'], q)
  }
  for (const q of ['кошка', 'Кошку', 'рыжая кошка', 'рыжий']) {
    t.strictSame(await find(q), ['Рыжие кошки спят'], q)
  }
  for (const q of ['елка', 'Ёлки', 'еще']) t.strictSame(await find(q), ['Ещё одна ЁЛКА'], q)
  for (const q of ['bar', 'baz', 'foo', 'example']) t.strictSame(await find(q), ['foo/bar@baz.example'], q)
  t.strictSame(await find('dog'), [])
  t.strictSame(await find('cat dog'), [], 'all words must be there')
})

t.test('only the last word of a query matches as a prefix', async (t) => {
  const { find, indexed, say } = await startSearch(t)
  await say('elephants remember everything')
  await say('невероятная история')
  await indexed()
  for (const q of ['eleph', 'remember every', 'everything remem']) {
    t.strictSame(await find(q), ['elephants remember everything'], q)
  }
  t.strictSame(await find('невер'), ['невероятная история'])
  t.strictSame(await find('reme everything'), [])
  t.strictSame(await find('lephants'), [])
  t.strictSame(await find('"remem"'), [], 'nor may a word in quotes')
})

t.test('quoted words match as an exact phrase', async (t) => {
  const { find, indexed, say } = await startSearch(t)
  await say('one red car and a blue bike')
  await say('car red, one red cars')
  await indexed()
  t.strictSame(await find('"red car"'), ['one red car and a blue bike'])
  t.strictSame(await find('«red car» bikes'), ['one red car and a blue bike'])
  t.strictSame(await find('“car red”'), ['car red, one red cars'])
  t.strictSame(await find('red car'), ['one red car and a blue bike', 'car red, one red cars'])
  t.strictSame(await find('"blue car"'), [])
  t.strictSame(
    await find('"a blue bi'),
    ['one red car and a blue bike'],
    'without its end, the last word is open'
  )
})

t.test('an edited message is found by its new text only, a deleted one not at all', async (t) => {
  const { call, client, find, indexed, say, token } = await startSearch(t)
  const { id: edited } = await say('apples')
  const { id: editedBySql } = await say('apricots')
  const { id: deleted } = await say('bananas')
  const { id: deletedBySql } = await say('bananas too')
  await indexed()
  t.strictSame(await find('bananas'), ['bananas', 'bananas too'])
  await call('PATCH', `/api/messages/${edited}`, { token, body: { text: 'cherries' } })
  await client.query(`update chat_message set text = 'cherry pie' where id = $1`, [editedBySql])
  await call('DELETE', `/api/messages/${deleted}`, { token })
  t.strictSame(await find('bananas'), ['bananas too'], 'from the moment of the answer')
  await client.query('delete from chat_message where id = $1', [deletedBySql])
  t.strictSame(await find('bananas'), [])
  await indexed()
  t.strictSame(await find('apples'), [])
  t.strictSame(await find('apricots'), [])
  t.strictSame(await find('cherries'), ['cherries', 'cherry pie'])
  const { rows } = await client.query('select from chat_message_search where message_id = any ($1)', [
    [deleted, deletedBySql]
  ])
  t.equal(rows.length, 0, 'and their words are not kept')
})

t.test('messages that a moderator or deleted_at has deleted are not found', async (t) => {
  const { call, client, registerAs, post } = await startModerated(t)
  const spammer = await registerAs('member')
  const moderator = await registerAs('moderator')
  const ids = []
  for (let n = 0; n < 3; n++) ids.push((await post(spammer.token, `buy pills ${n}`)).id)
  const found = async () => (await call('GET', '/api/search?q=pills')).body.length
  await waitUntil('the messages are indexed', async () => (await found()) === 3)
  await call('DELETE', `/api/messages/${ids[0]}`, { token: moderator.token })
  t.equal(await found(), 2)
  await client.query('alter table chat_message add deleted_at timestamptz')
  await client.query('update chat_message set deleted_at = now() where id = $1', [ids[1]])
  t.equal(await found(), 1)
  await waitUntil('its words are forgotten', async () => {
    const { rows } = await client.query('select from chat_message_search')
    return rows.length === 1
  })
  await client.query('update chat_message set deleted_at = null')
  await waitUntil('it is found again', async () => (await found()) === 2)
  await call('DELETE', `/api/users/${spammer.userId}/messages`, { token: moderator.token })
  t.equal(await found(), 0)
})

t.test('pages are complete and without duplicates, newest first', async (t) => {
  const { client, indexed, search, userId } = await startSearch(t)
  // Ids of several segments, with a gap, and some below zero.
  await client.query(
    `insert into chat_message (id, user_id, text)
     select id, $1, case when id % 3 = 0 then 'needle in hay' else 'hay' end
     from (select generate_series(65000, 66500) as id union all select generate_series(-30, 30)
       union all select generate_series(400000, 400040)) ids`,
    [userId]
  )
  await client.query('alter sequence chat_message_id_seq restart with 500000')
  await indexed()
  const { rows } = await client.query(
    "select id from chat_message where text like 'needle%' order by id desc"
  )
  await waitUntil('all are indexed', async () => {
    const { rows: missing } = await client.query(
      'select from chat_message where id not in (select message_id from chat_message_search)'
    )
    return missing.length === 0
  })
  for (const q of [
    'needle',
    '"needle in"',
    'need',
    'hay needle',
    'needle ha',
    'hay need',
    '"needle in" ha'
  ]) {
    const ids: number[] = []
    for (let before = ''; ;) {
      const { body, headers } = await search(q, `&limit=37${before}`)
      const page: number[] = body.map(({ id }: { id: number }) => id)
      t.strictSame(
        page,
        page.toSorted((a, b) => a - b),
        'ascending'
      )
      ids.push(...page.toReversed())
      // Where a search has run out of time, it says where to go on.
      const next = headers.get('x-search-next') ?? (page.length < 37 ? undefined : page[0])
      if (next === undefined) break
      before = `&before_id=${next}`
    }
    t.strictSame(
      ids,
      rows.map(({ id }) => id),
      q
    )
  }
})

t.test('a search that runs out of time says where to go on, unless nothing is left', async (t) => {
  const { client, indexed, say, userId } = await startSearch(t)
  await client.query("insert into chat_message (id, user_id, text) values (70000, $1, 'hay')", [userId])
  await client.query('alter sequence chat_message_id_seq restart with 200000')
  const { id } = await say('needle')
  await indexed()
  const findWithoutTime = async (below: number) => {
    const pattern = "'\u0001needle'"
    const { rows } = await client.query('select * from chat_search($1, null, $2, 50, 0)', [pattern, below])
    return rows[0]
  }
  t.strictSame(await findWithoutTime(id + 1), {
    ids: [String(id)], // pg does not parse the numbers of an array
    next_below: (id >> 16) << 16
  })
  t.strictSame(await findWithoutTime(131_072), { ids: [], next_below: null })
})

t.test('a search result has the fields of a list, and a cursor for the events', async (t) => {
  const { call, find, indexed, say, search, token } = await startSearch(t)
  const { id } = await say('who knows?')
  const { body: reply } = await call('POST', '/api/messages', {
    token,
    body: { text: 'I know', replyTo: id }
  })
  await indexed()
  const { body, headers } = await search('know')
  t.strictSame(body, (await call('GET', `/api/messages?after_id=${id - 1}`)).body)
  t.match(body[1], { id: reply.id, replyTo: { id, text: 'who knows?' } })
  const { headers: list } = await call('GET', '/api/messages')
  t.equal(headers.get('x-event-cursor'), list.get('x-event-cursor'))
  t.equal(headers.get('x-search-incomplete'), null)
  t.equal(headers.get('x-search-next'), null)
  t.equal((await find('know', '&limit=1')).length, 1)
})

t.test('a query that is too short, too long or missing is a 400 with its own code', async (t) => {
  const { call } = await startService(t)
  for (const [query, code] of [
    ['', 'q_missing'],
    ['?q=', 'q_missing'],
    ['?q=%20%20', 'q_missing'],
    ['?q=a', 'q_too_short'],
    [`?q=${'a'.repeat(101)}`, 'q_too_long'],
    ['?q=word&limit=0', 'limit_invalid'],
    ['?q=word&limit=x', 'limit_invalid'],
    ['?q=word&before_id=x', 'before_id_invalid']
  ]) {
    t.match(await call('GET', `/api/search${query}`), { status: 400, body: { code } }, `${query}`)
  }
  t.equal((await call('GET', `/api/search?q=${encodeURIComponent('🦊🦊')}`)).status, 200, 'two characters')
  t.equal((await call('GET', `/api/search?q=${encodeURIComponent('🦊'.repeat(100))}`)).status, 200)
  t.equal((await call('GET', '/api/search?q=word&limit=100000&before_id=-9999999999999999999')).status, 200)
})

t.test('operators, quotes, stop words and anything else are words or nothing', async (t) => {
  const { find, indexed, say, search } = await startSearch(t)
  await say('to be or not to be 🎉')
  await say("C'est l'été & <b>it's</b> | a:* b!")
  await indexed()
  for (const q of [
    'the',
    '& | !',
    '()',
    '""',
    '" "',
    '«»',
    "'; drop table chat_message; --",
    '<->',
    ':*',
    '\0\0',
    '%00'
  ]) {
    t.strictSame(await find(q), [], q)
  }
  t.strictSame(await find('to be'), ['to be or not to be 🎉'])
  t.strictSame(await find('"to be or not"'), ['to be or not to be 🎉'])
  t.strictSame(await find('!not & (be'), ['to be or not to be 🎉'])
  t.strictSame(await find('🎉🎉'), ['to be or not to be 🎉'])
  t.strictSame(await find("it's a"), ["C'est l'été & <b>it's</b> | a:* b!"])
  const special = fc.constantFrom(
    ...[...'\'"&|!():*<->\\$%_«»\u0001\u0000\u0301́İßﷺ🎉\ud800', 'word', 'слово', ' ']
  )
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.string({ unit: 'grapheme', maxLength: 40 }),
        fc.array(special, { maxLength: 40 }).map((it) => it.join(''))
      ),
      async (q) => {
        const { status, body } = await search(q.toWellFormed())
        return status === 200 ? Array.isArray(body) : status === 400 && body.code.startsWith('q_')
      }
    ),
    { numRuns: 100 }
  )
})

t.test('an emoji is a word, also a flag or a keycap, in either style', async (t) => {
  const { find, indexed, say } = await startSearch(t)
  const texts = ['servus 🇩🇪🇦🇹!', 'step 1️⃣2️⃣', 'dial #️⃣', 'press *⃣', 'I ❤️ it']
  for (const text of texts) await say(text)
  await indexed()
  for (const [q, expected] of [
    ['🇩🇪', texts[0]],
    ['🇦🇹', texts[0]],
    ['🇦🇹 servus', texts[0]],
    ['🇪🇦', undefined],
    ['2️⃣', texts[1]],
    ['1⃣', texts[1]],
    ['3️⃣', undefined],
    ['#️⃣', texts[2]],
    ['*️⃣', texts[3]],
    ['❤️', texts[4]]
  ] as const) {
    t.strictSame(await find(q), expected === undefined ? [] : [expected], q)
  }
})

t.test('every posted text is found by its own words', async (t) => {
  const { client, indexed, search, userId } = await startSearch(t)
  const texts = fc.sample(
    fc.array(
      fc.oneof(
        fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }),
        fc.constantFrom(
          'слово',
          'Ёлка',
          'running',
          'ﷺ'.repeat(200),
          'é'.repeat(300),
          '\\',
          "'",
          'x'.repeat(300)
        )
      ),
      { minLength: 1, maxLength: 8 }
    ),
    200
  )
  for (const words of texts) {
    const text = words.join(' ').replaceAll('\0', '').toWellFormed()
    await client.query('insert into chat_message (user_id, text) values ($1, $2)', [userId, text])
  }
  await indexed()
  const { rows } = await client.query(`
    select id, text from chat_message where not exists (select from chat_message_search where message_id = id)`)
  t.strictSame(rows, [], 'each is indexed')
  const { rows: messages } = await client.query('select id, text from chat_message order by id')
  for (const { id, text } of messages.slice(0, 60)) {
    // Whole words, because what is left of one that was cut may be another letter.
    const words = text.replaceAll(/["“”„«»]/g, ' ').split(/\s+/)
    const q = words
      .filter((word: string) => /[\p{L}\p{N}]/u.test(word) && word.length <= 40)
      .slice(0, 2)
      .join(' ')
    if ([...q].length < 2) continue
    const { status, body } = await search(q, `&before_id=${id + 1}&limit=1`)
    if (status !== 200) throw new Error(`${status} for ${JSON.stringify(q)}`)
    t.strictSame(
      body.map((found: { id: number }) => found.id),
      [id],
      JSON.stringify(q)
    )
  }
})

t.test('a deleted account leaves no words in the search index', async (t) => {
  const { call, client, find, indexed, say, token } = await startSearch(t)
  const ids: number[] = []
  for (let n = 0; n < 3; n++) ids.push((await say(`secret ${n}`)).id)
  await indexed()
  t.equal((await find('secret')).length, 3)
  const { status } = await call('DELETE', '/api/me', { token, body: { password: 'correct horse' } })
  t.equal(status, 204)
  t.strictSame(await find('secret'), [])
  const { rows } = await client.query('select from chat_message_search where message_id = any ($1)', [ids])
  t.equal(rows.length, 0)
})

t.test('SEARCH_LANGUAGES can turn off stemming, or search as a whole', async (t) => {
  const { find, indexed, say } = await startSearch(t, { SEARCH_LANGUAGES: 'simple' })
  await say('cats running')
  await indexed()
  t.strictSame(await find('cats running'), ['cats running'])
  t.strictSame(await find('run cat'), [])
  const { call, app } = await startService(t, { SEARCH_LANGUAGES: 'off' })
  const button = /<button\s+id="search"\s+hidden/
  t.match((await call('GET', '/')).body, button, 'and the page offers none')
  t.match(await call('GET', '/api/search?q=cats'), { status: 404, body: { code: 'not_found' } })
  t.equal((await call('GET', '/health/readyz')).status, 200)
  const { rows } = await app.pg.query(
    "select from pg_stat_activity where application_name = 'chat-backend search' and datname = current_database()"
  )
  t.equal(rows.length, 0)
})
