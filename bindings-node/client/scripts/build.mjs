// Writes client.min.js, which is what applications get: esbuild joins the sources, terser makes the result small.

import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { minify } from 'terser';

const at = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

/** The text of the bundle; a test compares it with the file. */
export async function bundle() {
  const { outputFiles } = await build({
    entryPoints: [at('src/client.js')],
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    write: false,
  });
  const { code } = await minify(outputFiles[0].text, {
    module: true,
    compress: { passes: 3, unsafe_arrows: true, ecma: 2020 },
  });
  return `${code}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeFile(at('client.min.js'), await bundle());
}
