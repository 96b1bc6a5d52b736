import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { joinSamples, type Sample } from "../../routers/voices/samples.ts";
import { id3, mp3Frame, soundIn, wavFile } from "../support/audio.ts";

const named = (bytes: Buffer, fileName = "a.wav") => ({ bytes, fileName });
const refusal = (...given: ReturnType<typeof named>[]) => (joinSamples(given) as { refused: string }).refused;
const joined = (...given: ReturnType<typeof named>[]) => {
  const sample = joinSamples(given);
  if ("refused" in sample) throw new Error(sample.refused);
  return sample;
};
const evenBytes = fc
  .uint8Array({ minLength: 2, maxLength: 300 })
  .map((bytes) => Buffer.from(bytes.length % 2 ? bytes.slice(1) : bytes));

describe("samples of a voice", () => {
  test("one file is sent unchanged", () => {
    const wav = wavFile(Buffer.from("sound!"));
    expect(joined(named(wav))).toEqual({ bytes: wav, fileName: "sample.wav", contentType: "audio/wav" });
    const mp3 = Buffer.concat([id3(20), mp3Frame(1), mp3Frame(2)]);
    expect(joined(named(mp3))).toEqual({ bytes: mp3, fileName: "sample.mp3", contentType: "audio/mpeg" });
  });

  test("several WAVs become one with their audio in order", () => {
    fc.assert(
      fc.property(
        fc.array(
          evenBytes.filter(({ length }) => length > 0),
          { minLength: 1, maxLength: 5 },
        ),
        (sounds) => {
          const { bytes } = joined(...sounds.map((sound) => named(wavFile(sound))));
          expect(soundIn(bytes)).toEqual(Buffer.concat(sounds));
          expect(bytes.readUInt32LE(4)).toBe(bytes.length - 8);
          expect(joined(named(bytes)).bytes).toEqual(bytes);
        },
      ),
    );
  });

  test("chunks without audio are skipped, and an odd one is padded", () => {
    const list = Buffer.concat([Buffer.from("LIST"), Buffer.from([3, 0, 0, 0]), Buffer.from("abc\0")]);
    const { bytes } = joined(named(wavFile(Buffer.from("one "), { extra: list })), named(wavFile(Buffer.from("two "))));
    expect(soundIn(bytes).toString()).toBe("one two ");
  });

  test("without a length, as a streaming recorder writes it, the audio extends to the end", () => {
    const wav = wavFile(Buffer.from("streamed"));
    const at = wav.indexOf("data", 12, "latin1");
    for (const said of [0, 0xffff_ffff]) {
      wav.writeUInt32LE(said, at + 4);
      expect(soundIn(joined(named(wav), named(wavFile(Buffer.from("+ more")))).bytes).toString()).toBe(
        "streamed+ more",
      );
    }
  });

  test("several MP3s become one of their frames, without tags and without the index frame", () => {
    const index = mp3Frame(0);
    index.write("Xing", 36, "latin1");
    const tag = Buffer.alloc(128, 0x20);
    tag.write("TAG", 0, "latin1");
    const one = Buffer.concat([id3(300), index, mp3Frame(1), mp3Frame(2), tag]);
    const two = Buffer.concat([mp3Frame(3), mp3Frame(4), mp3Frame(5).subarray(0, 100)]);
    const { bytes, contentType } = joined(named(one, "a.mp3"), named(two, "b.mp3"));
    expect(contentType).toBe("audio/mpeg");
    expect(bytes).toEqual(Buffer.concat([1, 2, 3, 4].map(mp3Frame)));
  });

  test("files that cannot be one sample are refused with a message that names the file", () => {
    expect(refusal(named(wavFile(100)), named(Buffer.concat([mp3Frame(1), mp3Frame(2)]), "b.mp3"))).toContain(
      "a.wav and b.mp3 have different formats",
    );
    expect(refusal(named(wavFile(100)), named(wavFile(100, { rate: 8000 }), "b.wav"))).toContain("1 x 8000 Hz");
    expect(refusal(named(Buffer.from("%PDF-1.7 and so on"), "x.wav"))).toBe("x.wav is neither a WAV nor an MP3.");
    expect(refusal(named(Buffer.alloc(0)))).toBe("a.wav is neither a WAV nor an MP3.");
    expect(refusal(named(wavFile(0)))).toContain("has no audio");
    expect(refusal(named(wavFile(1000).subarray(0, 500)))).toContain("is truncated");
    expect(refusal(named(wavFile(1000).subarray(0, 20)))).toContain("has no audio");
    const damaged = Buffer.concat([mp3Frame(1), mp3Frame(2), Buffer.alloc(9000, 1)]);
    expect(refusal(named(damaged, "d.mp3"))).toContain("is damaged");
    expect(refusal(named(wavFile(6_000_000)), named(wavFile(6_000_000)))).toContain("at most 10 MB");
    expect(refusal()).toBe("There is no sample. Send at least one.");
  });

  test("any input gives a sample or a message", () => {
    const heads = [Buffer.alloc(0), Buffer.from("RIFF0000WAVE"), id3(4), Buffer.from([0xff, 0xfb, 0x90, 0])];
    const junk = fc.tuple(fc.constantFrom(...heads), fc.uint8Array({ maxLength: 600 }));
    fc.assert(
      fc.property(fc.array(junk, { maxLength: 3 }), (files) => {
        const given = files.map(([head, rest]) => named(Buffer.concat([head, Buffer.from(rest)])));
        const answer: Sample | { refused: string } = joinSamples(given);
        expect("refused" in answer ? typeof answer.refused : answer.bytes.length > 0).toBeTruthy();
      }),
      { numRuns: 500 },
    );
  });

  test("a change of one byte of a valid file gives a refusal or a sample", () => {
    const good = wavFile(Buffer.from("sound of a voice"));
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), (at, value) => {
        const bent = Buffer.from(good);
        bent[at] = value;
        expect(() => joinSamples([named(bent), named(good)])).not.toThrow();
      }),
    );
  });
});
