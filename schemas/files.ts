import { Type } from '@sinclair/typebox'

/** A file, sent unchanged. */
export const StaticFile = Type.Unsafe<Buffer | string>(Type.String())
