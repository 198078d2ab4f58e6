// `node -e <this> http://chat-backend:8080` asks whether the service is ready and lets everybody read.
const [, url] = process.argv
async function check(path, isRight) {
  const response = await fetch(url + path, { signal: AbortSignal.timeout(5000) })
  const body = await response.json()
  if (!response.ok || !isRight(body)) {
    throw new Error(`${path} answered ${response.status} ${JSON.stringify(body)}`)
  }
  console.log(`${path} is right`)
}
check('/health/readyz', ({ status }) => status === 'ok')
  .then(() => check('/api/messages?limit=1', Array.isArray))
  .catch(({ message, cause }) => {
    console.log(cause ? `${message}: ${cause.message}` : message)
    process.exitCode = 1
  })
