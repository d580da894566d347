// Reads the goldens of channel shuffle without any library, shuffles, and compares every bit.
//
//     node examples/other_languages/shuffle.mjs [FOLDER] [CASE]…
//
// FOLDER is conformance/goldens; a CASE is a name as in `conformance list cases`. Exit 1 where a
// bit differs, 2 where a file is not what docs/goldens.md says. Replace `shuffled` by your own.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** x (N, C, *spatial) as bytes, row-major: channel i of the output is channel (i mod g)·C/g + i div g. */
function shuffled(bytes, shape, groups) {
  const [samples, channels] = shape;
  const plane = bytes.length / (samples * channels) || 0; // the bytes of one channel of one sample
  const output = Buffer.alloc(bytes.length);
  for (let n = 0; n < samples; n++) {
    for (let i = 0; i < channels; i++) {
      const from = (i % groups) * (channels / groups) + Math.floor(i / groups);
      bytes.copy(output, (n * channels + i) * plane, (n * channels + from) * plane, (n * channels + from + 1) * plane);
    }
  }
  return output;
}

/** A safetensors file: 8 bytes of length, a header of JSON, and then the tensors' bytes. */
function tensorsOf(path) {
  const file = readFileSync(path);
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, start));
  return (name) => file.subarray(...header[name].data_offsets.map((offset) => start + offset));
}

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

function main(folder = "conformance/goldens", ...wanted) {
  const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
  if (manifest.format !== 2) throw new Error(`manifest.json has format ${manifest.format}, and this reads 2`);
  const files = {};
  const read = ({ file, tensor, sha256: digest }) => {
    files[file] ??= tensorsOf(join(folder, file));
    const bytes = files[file](tensor);
    if (sha256(bytes) !== digest) throw new Error(`${file}: ${tensor} has other bytes than the manifest says`);
    return bytes;
  };
  let [equal, differing, left] = [0, [], 0];
  for (const [id, entry] of Object.entries(manifest.cases)) {
    const [operation, name] = id.split(":");
    if (operation !== "channel_shuffle" || (wanted.length && !wanted.includes(name))) continue;
    const { shape, groups, transform = "plain", then = [], derivative = "none" } = entry.parameters;
    const { input } = entry.inputs;
    // What is not stored, refused, or of another form than output = shuffle(input) is left out.
    if (!input?.file || entry.refusal || !entry.answers.output || transform === "vmapped") { left++; continue; }
    if (Object.keys(entry.inputs).length > 1 || derivative !== "none") { left++; continue; }
    let output = read(input);
    for (const g of [groups, ...then]) output = shuffled(output, shape, g);
    if (output.equals(read(entry.answers.output))) equal++;
    else differing.push(name);
  }
  if (!equal && !differing.length) throw new Error(`no case of channel shuffle is called ${wanted.join(" or ")}`);
  console.log(`${equal} cases equal to the bit, ${differing.length} differ, ${left} ask something else`);
  for (const name of differing) console.log(`  differs: ${name}`);
  return differing.length ? 1 : 0;
}

try {
  process.exitCode = main(...process.argv.slice(2));
} catch (error) {
  console.error(`shuffle.mjs: ${error.message}`);
  process.exitCode = 2;
}
