// sharp: `concurrency(1)` and as many originals at a time as the job has workers.
//
//   node sharp_peer.mjs JOB FOLDER-WITH-NODE_MODULES apart|chained
//
// apart:   as its documentation shows: one pipeline for each rendition, each shrinking on load.
// chained: the fastest form found: one decode for the largest rendition, kept as raw pixels, and
//          the smaller ones resized from it.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const [jobPath, modules, mode] = process.argv.slice(2);
const sharp = createRequire(resolve(modules, 'x.js'))('sharp');
const job = JSON.parse(readFileSync(jobPath, 'utf8'));
const encoder = job.encoder;
sharp.concurrency(1);

function encode(pipeline, rendition) {
  const quality = rendition.quality;
  switch (rendition.format) {
    case 'jpeg':
      return pipeline.jpeg({
        quality,
        chromaSubsampling: encoder.jpeg_subsampling,
        progressive: encoder.jpeg_progressive,
        // sharp's default is true, Pillow's false: the same for all, or bytes and time differ.
        optimiseCoding: encoder.jpeg_optimise_huffman,
        mozjpeg: false,
      });
    case 'webp':
      return pipeline.webp({ quality, effort: encoder.webp_method });
    case 'avif':
      return pipeline.avif({
        quality,
        effort: Math.max(0, 9 - encoder.avif_speed),
        chromaSubsampling: encoder.avif_subsampling,
        bitdepth: 8,
      });
    default:
      throw new Error(`no options for the format ${rendition.format}`);
  }
}

function resized(image, rendition) {
  return image.resize(rendition.width, rendition.height, { fit: 'fill', kernel: 'lanczos3' });
}

async function apart(task) {
  for (const rendition of task.renditions) {
    const image = resized(sharp(task.path).autoOrient(), rendition);
    await encode(image, rendition).toFile(rendition.path);
  }
}

async function chained(task) {
  const largest = task.renditions[0];
  const { data, info } = await resized(sharp(task.path).autoOrient(), largest)
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true });
  const raw = { width: info.width, height: info.height, channels: info.channels };
  for (const rendition of task.renditions) {
    const image = sharp(data, { raw });
    const sized = rendition === largest ? image : resized(image, rendition);
    await encode(sized, rendition).toFile(rendition.path);
  }
}

const render = mode === 'chained' ? chained : apart;
let next = 0;
async function worker() {
  while (next < job.tasks.length) await render(job.tasks[next++]);
}
await Promise.all(Array.from({ length: job.workers }, worker));
