/** The one file that is sent to the provider for cloning. */
export type Sample = { bytes: Buffer; fileName: string; contentType: "audio/wav" | "audio/mpeg" };
type SampleFile = { bytes: Buffer; fileName: string };
type Audio = { format: "wav" | "mp3"; key: string; fileName: string; bytes: Buffer; sound: Buffer };

/** The limit of the voice provider (docs.ultravox.ai, voices/cloning). */
export const maxSampleBytes = 10_000_000;

/** Joins samples of one format into one file, in order. `refused` is a message for people. */
export function joinSamples(samples: readonly SampleFile[]): Sample | { refused: string } {
  const read = samples.map(readAudio);
  const sounds: Audio[] = [];
  for (const each of read) {
    if ("refused" in each) return each;
    sounds.push(each);
  }
  const [first] = sounds;
  if (!first) return { refused: "There is no sample. Send at least one." };
  const other = sounds.find(({ key }) => key !== first.key);
  if (other) {
    const refused = `${first.fileName} and ${other.fileName} have different formats: ${first.key} and ${other.key}. Send samples of one format.`;
    return { refused };
  }
  const bytes = sounds.length === 1 ? first.bytes : join(first, sounds);
  if (bytes.length > maxSampleBytes) {
    return { refused: `The samples have ${megabytes(bytes.length)} in total. Send at most 10 MB.` };
  }
  return first.format === "wav"
    ? { bytes, fileName: "sample.wav", contentType: "audio/wav" }
    : { bytes, fileName: "sample.mp3", contentType: "audio/mpeg" };
}

function readAudio(given: SampleFile): Audio | { refused: string } {
  const { bytes, fileName } = given;
  const isWav =
    bytes.length >= 12 && bytes.toString("latin1", 0, 4) === "RIFF" && bytes.toString("latin1", 8, 12) === "WAVE";
  const found = isWav ? readWav(bytes) : readMp3(bytes);
  if (typeof found === "string") return { refused: `${fileName} ${found}` };
  return { ...given, format: isWav ? "wav" : "mp3", ...found };
}

function join(first: Audio, sounds: readonly Audio[]): Buffer {
  const sound = Buffer.concat(sounds.map((each) => each.sound));
  return first.format === "wav" ? wavOf(formatOf(first.bytes), sound) : sound;
}

type Found = Pick<Audio, "key" | "sound">;

/** RIFF: chunks with a four-letter name, a length, and bytes padded to an even length. Returns a problem as a string. */
function readWav(bytes: Buffer): Found | string {
  let format: Buffer | null = null;
  for (const { name, content, isCut } of chunksOf(bytes)) {
    if (name === "fmt ") format = content;
    if (name !== "data") continue;
    if (!format || format.length < 16) return "is not a valid WAV: it has no format chunk.";
    if (isCut) return "is truncated: it has less audio than its header announces.";
    const [channels, rate, blockBytes, bits] = [2, 4, 12, 14].map((at) =>
      at === 4 ? format!.readUInt32LE(at) : format!.readUInt16LE(at),
    ) as [number, number, number, number];
    if (blockBytes === 0 || rate === 0) return "is not a valid WAV: its format chunk is not valid.";
    const sound = content.subarray(0, content.length - (content.length % blockBytes));
    if (sound.length === 0) return "has no audio.";
    const codec = format.readUInt16LE(0);
    return { key: `WAV with ${channels} x ${rate} Hz, ${bits} bit, codec ${codec}`, sound };
  }
  return "is not a valid WAV: it has no audio.";
}

const unknownLength = 0xffff_ffff;

/** A recorder that streams writes 0 or the largest number as the length. The audio then extends to the end of the file. */
function* chunksOf(bytes: Buffer) {
  let at = 12;
  while (at + 8 <= bytes.length) {
    const name = bytes.toString("latin1", at, at + 4);
    const announced = bytes.readUInt32LE(at + 4);
    const left = bytes.length - at - 8;
    const open = name === "data" && (announced === unknownLength || announced === 0);
    const length = open ? left : announced;
    yield { name, content: bytes.subarray(at + 8, at + 8 + Math.min(length, left)), isCut: length > left };
    at += 8 + length + (length % 2);
  }
}

function formatOf(bytes: Buffer): Buffer {
  for (const { name, content } of chunksOf(bytes)) if (name === "fmt ") return content;
  throw new Error("The WAV has no format chunk.");
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

/** Editors may leave this much junk at the end. More than that means a damaged file. */
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
    if (kind !== null && frame.kind !== kind) return "changes its format within the file.";
    kind = frame.kind;
    const whole = bytes.subarray(at, at + frame.length);
    if (!(frames.length === 0 && isIndex(whole))) frames.push(whole);
    at += frame.length;
  }
  if (kind === null || frames.length < 2) return "is neither a WAV nor an MP3.";
  if (bytes.length - end - at > junkBytes) return "is damaged: its audio stops before the end of the file.";
  return { key: `MP3 with ${kind}`, sound: Buffer.concat(frames) };
}

/** An ID3v2 tag has its length in its header, with seven bits per byte. A file may have several tags. */
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

/** True for an index frame, which has the length of the file. In a joined file that length would be wrong. */
function isIndex(frame: Buffer): boolean {
  const text = frame.toString("latin1", 0, 64);
  return text.includes("Xing") || text.includes("Info") || text.includes("VBRI");
}

const megabytes = (bytes: number) => `${(bytes / 1_000_000).toFixed(1)} MB`;
