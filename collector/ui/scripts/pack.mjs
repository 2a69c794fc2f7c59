// Moves the build to dist, where the collector's build takes it from, each file with its compressed forms beside it.
import { createReadStream, createWriteStream } from 'node:fs';
import { cp, mkdir, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { constants, createBrotliCompress, createGzip } from 'node:zlib';

const root = path.dirname(path.dirname(new URL(import.meta.url).pathname));
const [from, to] = [path.join(root, 'build'), path.join(root, 'dist')];

async function files(dir) {
  const entries = await readdir(dir, { withFileTypes: true });
  const lists = entries.map((entry) => {
    const at = path.join(dir, entry.name);
    return entry.isDirectory() ? files(at) : [at];
  });
  return (await Promise.all(lists)).flat();
}

await mkdir(to, { recursive: true });
for (const entry of await readdir(to)) {
  if (entry !== '.gitignore') await rm(path.join(to, entry), { recursive: true });
}
await cp(from, to, { recursive: true });
const sums = { plain: 0, gzip: 0, brotli: 0 };
for (const file of await files(to)) {
  if (path.basename(file) === '.gitignore') continue;
  const size = (await stat(file)).size;
  const pack = async (ending, stream) => {
    await pipeline(createReadStream(file), stream, createWriteStream(`${file}.${ending}`));
    return (await stat(`${file}.${ending}`)).size;
  };
  sums.plain += size;
  sums.gzip += await pack('gz', createGzip({ level: 9 }));
  sums.brotli += await pack('br', createBrotliCompress({ params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }));
}
const kb = (bytes) => `${(bytes / 1000).toFixed(0)} kB`;
console.log(`interface: ${kb(sums.plain)}, gzip ${kb(sums.gzip)}, brotli ${kb(sums.brotli)}`);
