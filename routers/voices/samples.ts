/** What is uploaded to be cloned: one file, whatever the client sent. */
export type Sample = { bytes: Buffer; fileName: string; contentType: "audio/wav" | "audio/mpeg" };
type Given = { bytes: Buffer; fileName: string };
type Sound = { format: "wav" | "mp3"; key: string; fileName: string; bytes: Buffer; sound: Buffer };

/** What the voice provider takes at most (docs.ultravox.ai, voices/cloning). */
export const maxSampleBytes = 10_000_000;

/** One file of several: of the same format and kind, their sound one after the other. `refused` is for people. */
export function joinSamples(samples: readonly Given[]): Sample | { refused: string } {
  const read = samples.map(readSound);
  const sounds: Sound[] = [];
  for (const each of read) {
    if ("refused" in each) return each;
    sounds.push(each);
  }
  const [first] = sounds;
  if (!first) return { refused: "There is no sample." };
  const other = sounds.find(({ key }) => key !== first.key);
  if (other) {
    const refused = `${first.fileName} and ${other.fileName} cannot be joined: ${first.key} and ${other.key}. Send samples of one format.`;
    return { refused };
  }
  const bytes = sounds.length === 1 ? first.bytes : join(first, sounds);
  if (bytes.length > maxSampleBytes) {
    return { refused: `The samples are ${megabytes(bytes.length)} together; at most 10 MB are taken.` };
  }
  return first.format === "wav"
    ? { bytes, fileName: "sample.wav", contentType: "audio/wav" }
    : { bytes, fileName: "sample.mp3", contentType: "audio/mpeg" };
}

function readSound(given: Given): Sound | { refused: string } {
  const { bytes, fileName } = given;
  const isWav =
    bytes.length >= 12 && bytes.toString("latin1", 0, 4) === "RIFF" && bytes.toString("latin1", 8, 12) === "WAVE";
  const found = isWav ? readWav(bytes) : readMp3(bytes);
  if (typeof found === "string") return { refused: `${fileName} ${found}` };
  return { ...given, format: isWav ? "wav" : "mp3", ...found };
}

function join(first: Sound, sounds: readonly Sound[]): Buffer {
  const sound = Buffer.concat(sounds.map((each) => each.sound));
  return first.format === "wav" ? wavOf(formatOf(first.bytes), sound) : sound;
}

type Found = Pick<Sound, "key" | "sound">;

/** RIFF: chunks of four letters, a length and their bytes, padded to an even length. */
function readWav(bytes: Buffer): Found | string {
  let format: Buffer | null = null;
  for (const { name, content, isCut } of chunksOf(bytes)) {
    if (name === "fmt ") format = content;
    if (name !== "data") continue;
    if (!format || format.length < 16) return "is no WAV that can be read: its format is missing.";
    if (isCut) return "is cut off: it holds less sound than its header says.";
    const [channels, rate, blockBytes, bits] = [2, 4, 12, 14].map((at) =>
      at === 4 ? format!.readUInt32LE(at) : format!.readUInt16LE(at),
    ) as [number, number, number, number];
    if (blockBytes === 0 || rate === 0) return "is no WAV that can be read: its format makes no sense.";
    const sound = content.subarray(0, content.length - (content.length % blockBytes));
    if (sound.length === 0) return "holds no sound.";
    const codec = format.readUInt16LE(0);
    return { key: `WAV with ${channels} x ${rate} Hz, ${bits} bit, codec ${codec}`, sound };
  }
  return "is no WAV that can be read: it holds no sound.";
}

const unknownLength = 0xffff_ffff;

/** A recorder that streamed wrote no length, or the largest: then the sound goes on to the end. */
function* chunksOf(bytes: Buffer) {
  let at = 12;
  while (at + 8 <= bytes.length) {
    const name = bytes.toString("latin1", at, at + 4);
    const said = bytes.readUInt32LE(at + 4);
    const left = bytes.length - at - 8;
    const open = name === "data" && (said === unknownLength || said === 0);
    const length = open ? left : said;
    yield { name, content: bytes.subarray(at + 8, at + 8 + Math.min(length, left)), isCut: length > left };
    at += 8 + length + (length % 2);
  }
}

function formatOf(bytes: Buffer): Buffer {
  for (const { name, content } of chunksOf(bytes)) if (name === "fmt ") return content;
  throw new Error("A WAV that was read has lost its format.");
}

function wavOf(format: Buffer, sound: Buffer): Buffer {
  const chunk = (name: string, content: Buffer) => {
    const head = Buffer.alloc(8);
    head.write(name, "latin1");
    head.writeUInt32LE(content.length, 4);
    return Buffer.concat([head, content, Buffer.alloc(content.length % 2)]);
  };
  return chunk("RIFF", Buffer.concat([Buffer.from("WAVE"), chunk("fmt ", format), chunk("data", sound)]));
}

// ISO 11172-3 and 13818-3, layer III: kbit/s by index, samples per second by version and index.
const bitrates = {
  1: [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
  2: [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
} as const;
const rates = { 3: [44_100, 48_000, 32_000], 2: [22_050, 24_000, 16_000], 0: [11_025, 12_000, 8_000] } as const;

/** Junk that editors leave at an end; more than that is no part of an MP3. */
const junkBytes = 4096;

function readMp3(bytes: Buffer): Found | string {
  const start = afterTags(bytes);
  const end =
    bytes.length >= 128 && bytes.toString("latin1", bytes.length - 128, bytes.length - 125) === "TAG" ? 128 : 0;
  const frames: Buffer[] = [];
  let kind: string | null = null;
  let at = start;
  while (at + 4 <= bytes.length - end) {
    const frame = frameAt(bytes, at);
    if (!frame || at + frame.length > bytes.length - end) break;
    if (kind !== null && frame.kind !== kind) return "changes its format on the way.";
    kind = frame.kind;
    const whole = bytes.subarray(at, at + frame.length);
    if (!(frames.length === 0 && isIndex(whole))) frames.push(whole);
    at += frame.length;
  }
  if (kind === null || frames.length < 2) return "is neither a WAV nor an MP3.";
  if (bytes.length - end - at > junkBytes) return "is damaged: its sound breaks off before its end.";
  return { key: `MP3 with ${kind}`, sound: Buffer.concat(frames) };
}

/** ID3v2 says its own length, seven bits to the byte; some files have several. */
function afterTags(bytes: Buffer): number {
  let at = 0;
  while (at + 10 <= bytes.length && bytes.toString("latin1", at, at + 3) === "ID3") {
    const size = [6, 7, 8, 9].reduce((sum, place) => (sum << 7) | ((bytes[at + place] ?? 0) & 0x7f), 0);
    at += 10 + size + (((bytes[at + 5] ?? 0) & 0x10) !== 0 ? 10 : 0);
  }
  return at;
}

function frameAt(bytes: Buffer, at: number): { length: number; kind: string } | null {
  const [sync = 0, second = 0, third = 0, fourth = 0] = bytes.subarray(at, at + 4);
  const version = (second >> 3) & 3;
  const isLayer3 = ((second >> 1) & 3) === 1;
  if (sync !== 0xff || second >> 5 !== 7 || version === 1 || !isLayer3) return null;
  const rate = rates[version as keyof typeof rates][(third >> 2) & 3];
  const kilobits = bitrates[version === 3 ? 1 : 2][third >> 4];
  if (!rate || !kilobits) return null;
  const length = Math.floor(((version === 3 ? 144 : 72) * kilobits * 1000) / rate) + ((third >> 1) & 1);
  return { length, kind: `${fourth >> 6 === 3 ? 1 : 2} x ${rate} Hz` };
}

/** A first frame that tells how long the file is: of a file that is joined it would tell a lie. */
function isIndex(frame: Buffer): boolean {
  const text = frame.toString("latin1", 0, 64);
  return text.includes("Xing") || text.includes("Info") || text.includes("VBRI");
}

const megabytes = (bytes: number) => `${(bytes / 1_000_000).toFixed(1)} MB`;
