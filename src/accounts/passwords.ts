import * as bcrypt from '@node-rs/bcrypt'

/** Hashes passwords of at most 72 bytes with bcrypt at `cost`, and checks them; hashes made by Go (`$2a$`) and PHP (`$2y$`) are accepted. */
export function createPasswords (cost: number) {
  // The library writes `$2y$`, PHP's name for the same algorithm.
  const hash = async (password: string) => (await bcrypt.hash(password, cost)).replace('$2y$', '$2b$')
  const nobody = hash('')
  return {
    hash,
    /** Without a hash (an unknown nickname), or for a password that bcrypt would cut, the answer is no, and as slow as any other. */
    verify: async (password: string, storedHash: string | undefined): Promise<boolean> => {
      const comparable = storedHash !== undefined && Buffer.byteLength(password) <= 72
      return await bcrypt.verify(password, comparable ? storedHash : await nobody) && comparable
    }
  }
}
