import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { build } from 'esbuild'

// `npm run build`: bundles each program with all that it imports, because to find, read and compile 700 small
// files took a quarter of each start (docs/performance.md).

const outdir = resolve(import.meta.dirname, 'dist')
const { outputFiles } = await build({
  absWorkingDir: import.meta.dirname,
  entryPoints: ['src/server.ts', 'src/admin.ts', 'src/wait.ts'],
  outbase: '.',
  outdir,
  write: false,
  bundle: true,
  // What is imported later, or by several programs, is a file of its own.
  splitting: true,
  chunkNames: 'src/[name]-[hash]',
  format: 'esm',
  platform: 'node',
  target: 'node20.20',
  // Optional, and for development only.
  external: ['js-redis-server', 'pino-pretty'],
  // CommonJS packages use it for the modules of Node.
  banner: {
    js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);"
  },
  // The source stays in memory, so it is small. Names and short lines are kept for the stacks in logs;
  // `NODE_OPTIONS=--enable-source-maps` shows the lines of src/ instead.
  minifyWhitespace: true,
  minifySyntax: true,
  lineLimit: 110,
  sourcemap: true,
  sourcesContent: false
})

// Only what has changed, so as not to disturb what starts meanwhile.
for (const { path, contents } of outputFiles) {
  if (existsSync(path) && readFileSync(path).equals(contents)) continue
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, contents)
}
// The names of shared files change with their content, and earlier builds had other files.
const current = new Set(outputFiles.map(({ path }) => path))
for (const entry of readdirSync(outdir, { recursive: true, withFileTypes: true })) {
  const path = join(entry.parentPath, entry.name)
  if (entry.isFile() && entry.name !== '.tsbuildinfo' && !current.has(path)) rmSync(path)
}
// By its time, `npm start` knows whether the build is older than the sources.
const now = new Date()
utimesSync(join(outdir, 'src/server.js'), now, now)
