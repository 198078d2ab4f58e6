import { Type } from '@sinclair/typebox'

/** A file, sent unchanged. */
export const FileContent = Type.Unsafe<Buffer | string>(Type.String())
