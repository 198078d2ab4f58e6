import { join } from 'node:path'
import neostandard, { plugins } from 'neostandard'

export default [
  ...neostandard({ ts: true, env: ['browser'], ignores: ['dist/', '.tap/', '.data/', 'client/'] }),
  {
    files: ['**/*.ts'],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: join(import.meta.dirname, '..') } },
    plugins: { '@typescript-eslint': plugins['typescript-eslint'].plugin },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/only-throw-error': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      // A schema and its type share one name.
      '@typescript-eslint/no-redeclare': 'off',
      // Settings that belong together may share a line.
      '@stylistic/object-property-newline': 'off'
    }
  },
  {
    // What browsers run, as it is; its members may stand close together.
    files: ['web/*.js'],
    languageOptions: { ecmaVersion: 2024 },
    rules: { '@stylistic/object-property-newline': 'off', '@stylistic/lines-between-class-members': 'off' }
  },
  {
    // Tests are left out: tap waits for its subtests itself.
    files: ['src/**/*.ts'],
    rules: {
      '@typescript-eslint/no-floating-promises': ['error', {
        // A Fastify instance can be awaited, so each of its methods looks like a promise.
        allowForKnownSafeCalls: [{ from: 'package', package: 'fastify', name: ['FastifyRegister', 'AddContentTypeParser'] }]
      }],
      'no-void': ['error', { allowAsStatement: true }],
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: false }]
    }
  }
]
