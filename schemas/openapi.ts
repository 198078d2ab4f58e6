import { Type } from '@sinclair/typebox'

/** `security` of a route that needs a session token. */
export const bearerSecurity: Record<string, string[]>[] = [{ token: [] }]
/** `security` of a route that anyone may call. */
export const noSecurity: Record<string, string[]>[] = []

/** Serialised once and sent as bytes. Format: https://spec.openapis.org/oas/v3.1. */
export const OpenApi = Type.Unsafe<Buffer>(
  Type.Object(
    {
      openapi: Type.String(),
      info: Type.Object({}, { additionalProperties: true }),
      paths: Type.Object({}, { additionalProperties: true })
    },
    { title: 'OpenApiDocument', description: 'This document.', additionalProperties: true }
  )
)

export const DocsPage = {
  description: 'The API reference.',
  content: { 'text/html': { schema: Type.String(), example: '<!doctype html>' } }
}
