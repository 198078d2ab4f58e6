import neostandard, { plugins } from 'neostandard'

// Prettier lays the code out (.prettierrc.json); what it cannot break is checked here.
const maxLen = {
  code: 110,
  ignoreUrls: true,
  ignoreStrings: true,
  ignoreTemplateLiterals: true,
  ignoreRegExpLiterals: true
}

export default [
  ...neostandard({
    ts: true,
    noStyle: true,
    env: ['browser'],
    ignores: ['dist/', '.tap/', '.data/', 'client/*.d.ts', 'client/types/']
  }),
  {
    plugins: { '@stylistic': plugins['@stylistic'] },
    rules: { '@stylistic/max-len': ['error', maxLen] }
  },
  {
    // SQL and sentences can be broken. Migrations are never edited, and the confusables are generated.
    files: ['src/**', 'schemas/**'],
    ignores: ['src/database/migrations.ts', 'src/accounts/confusables.ts'],
    rules: {
      '@stylistic/max-len': ['error', { ...maxLen, ignoreStrings: false, ignoreTemplateLiterals: false }]
    }
  },
  {
    files: ['**/*.ts'],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    plugins: { '@typescript-eslint': plugins['typescript-eslint'].plugin },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/only-throw-error': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      // A schema and its type share one name.
      '@typescript-eslint/no-redeclare': 'off'
    }
  },
  {
    // What browsers run, as it is.
    files: ['web/**/*.js'],
    languageOptions: { ecmaVersion: 2024 }
  },
  {
    // Tests are left out: tap waits for its subtests itself.
    files: ['src/**/*.ts'],
    rules: {
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          // A Fastify instance can be awaited, so each of its methods looks like a promise.
          allowForKnownSafeCalls: [
            { from: 'package', package: 'fastify', name: ['FastifyRegister', 'AddContentTypeParser'] }
          ]
        }
      ],
      'no-void': ['error', { allowAsStatement: true }],
      '@typescript-eslint/no-restricted-imports': [
        'error',
        { name: 'node:http', allowTypeImports: true, message: 'Its values are in src/lib/node-http.ts.' }
      ],
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: false }]
    }
  }
]
