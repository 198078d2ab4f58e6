import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join, resolve } from 'node:path'
import { StartError } from '../lib/start-error.ts'

/** The data directory of the embedded engines, locked for this process. */
export interface DataDir {
  path: string
  /** Holds the random password of the engines. */
  passwordFile: string
  /**
   * Undoes a failed start: removes everything that it created, and gives the folder back to its owner.
   */
  undo: () => void
}

/**
 * Locks the folder. Creates it and its password if they are missing.
 * @throws {StartError}
 */
export async function openDataDir(folder: string): Promise<DataDir> {
  const made = makeFolders(folder)
  const path = realpathSync(folder)
  await lock(path)
  const before = new Set(readdirSync(path))
  const { uid, gid } = statSync(path)
  const undo = () => {
    for (const name of readdirSync(path)) {
      if (!before.has(name)) rmSync(join(path, name), { recursive: true })
    }
    if (statSync(path).uid !== uid) chownSync(path, uid, gid)
    for (const one of made) rmdirSync(one)
  }

  const passwordFile = join(path, 'password')
  try {
    // An earlier start leaves an empty file if the disk was full.
    if (!existsSync(passwordFile) || statSync(passwordFile).size === 0) {
      writeFileSync(passwordFile, randomBytes(16).toString('hex'), { mode: 0o600 })
    }
  } catch (error) {
    undo()
    throw error
  }
  return { path, passwordFile, undo }
}

/**
 * Explains why a folder cannot be used, and what to do about it.
 * @param error from a file system call on the folder or anything in it
 */
export function unusable(folder: string, error: NodeJS.ErrnoException): StartError {
  const path = resolve(folder)
  const uid = process.getuid?.()
  const owner = ownerOf(path)
  const parent = dirname(error.path ?? path)
  const elsewhere = 'set it to another folder'
  const because = (reason: string, advice: string) =>
    new StartError(`DATA_DIR cannot be used, because ${reason}: ${advice}`, { cause: error })
  switch (error.code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return because(`the disk of ${path} is full`, `free some space there, or ${elsewhere}`)
    case 'EEXIST':
    case 'ENOTDIR':
      return because(`${path} is not a folder`, 'set it to another one')
    case 'ENOENT':
      return because(`no folder can be made in ${parent}`, 'set it to another one')
    case 'EROFS':
      return because(`${path} is read-only`, elsewhere)
    case 'EACCES':
    case 'EPERM':
      return owner === undefined || owner === uid
        ? because(`uid ${uid} may not write to ${parent}`, elsewhere)
        : because(
            `${path} belongs to uid ${owner} and this is uid ${uid}`,
            `start as that user, or ${elsewhere}`
          )
    default:
      return because(error.message, elsewhere)
  }
}

function ownerOf(path: string): number | undefined {
  try {
    return statSync(path).uid
  } catch {
    return undefined
  }
}

/**
 * Creates a folder and its missing parents. Node's `recursive` never returns where the kernel refuses (below
 * /proc, seen in Node 20).
 * @returns the folders that were created, innermost first. If it fails, it removes them again
 */
function makeFolders(folder: string): string[] {
  const missing: string[] = []
  for (let path = resolve(folder); !existsSync(path); path = dirname(path)) missing.push(path)
  const made: string[] = []
  try {
    for (const path of [...missing].reverse()) {
      mkdirSync(path, { mode: 0o700 })
      made.unshift(path)
    }
  } catch (error) {
    for (const path of made) rmdirSync(path)
    throw error
  }
  return made
}

/**
 * Locks a folder until this process ends, even by SIGKILL. The lock is an abstract Unix socket with the
 * folder's name, which only Linux has.
 */
async function lock(folder: string): Promise<void> {
  if (process.platform !== 'linux') return
  const name = `\0chat-backend-${createHash('sha256').update(folder).digest('hex').slice(0, 32)}`
  await once(createServer().listen(name).unref(), 'listening').catch((cause) => {
    throw new StartError(
      `another chat-backend is using the data in ${folder}: stop it, or set DATA_DIR to another folder`,
      { cause }
    )
  })
}
