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

/** The folder of the embedded engines, which no other process uses until this one ends. */
export interface DataDir {
  path: string
  /** The password that was drawn for the engines. */
  passwordFile: string
  /**
   * Removes everything that this start made, and gives the folder back to its owner; for a start that failed.
   */
  undo: () => void
}

/**
 * Makes the folder and its password where they are missing, and locks it. @throws {StartError} with one
 * sentence
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
    // It is empty when the disk was full.
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
 * Says why a folder cannot be used, and what to do.
 * @param error of a file system call, from anywhere below the folder
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
 * Makes a folder with those above it. Node's own `recursive` never returns where the kernel refuses (below
 * /proc, seen in Node 20).
 * @returns those that were missing, the innermost first; when it fails, none of them is left
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
 * Holds a folder until this process ends, however it ends: by an abstract socket (Linux alone has them) that
 * is named after it.
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
