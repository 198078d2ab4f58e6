import { Type } from '@sinclair/typebox'

/** Sent as it is. */
export const StaticFile = Type.Unsafe<Buffer | string>(Type.String())
