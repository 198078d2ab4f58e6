import { Type } from '@sinclair/typebox'

/**
 * Sent as the bytes that were made of it once. Its own form is that of https://spec.openapis.org/oas/v3.1.
 */
export const OpenApi = Type.Unsafe<Buffer>(
  Type.Object(
    {
      openapi: Type.String(),
      info: Type.Object({}, { additionalProperties: true }),
      paths: Type.Object({}, { additionalProperties: true })
    },
    { title: 'OpenApi', description: 'This document.', additionalProperties: true }
  )
)

export const DocsPage = {
  description: 'A page.',
  content: { 'text/html': { schema: Type.String(), example: '<!doctype html>' } }
}
