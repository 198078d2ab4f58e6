import { Type } from '@sinclair/typebox'

// `decimalIntegers` is a keyword of src/plugins/validation.ts.

/** The parameter of `/…/:id`, where the id is a number. */
export const IdParams = Type.Object({ id: Type.Integer() }, { title: 'IdParams', decimalIntegers: true })
