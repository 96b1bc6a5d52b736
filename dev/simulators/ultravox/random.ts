import { createHash } from "node:crypto";

export interface Random {
  /** At least `low`, less than `high`. */
  between(low: number, high: number): number;
  pick<T>(list: readonly [T, ...T[]]): T;
  shuffle<T>(list: readonly T[]): T[];
  uuid(): string;
}

/**
 * One random stream per name, so that one call's numbers do not depend on which timers of other calls fired before.
 */
export function stream(seed: number, ...name: (string | number)[]): Random {
  const draw = sfc32(
    createHash("sha256")
      .update(JSON.stringify([seed, ...name]))
      .digest(),
  );
  const fraction = () => draw() / 2 ** 32;
  const below = (count: number) => Math.floor(fraction() * count);
  return {
    // A range without width may be infinite, and infinity minus infinity is NaN.
    between: (low, high) => (low === high ? low : low + fraction() * (high - low)),
    pick: (list) => list[below(list.length)] ?? list[0],
    shuffle<T>(list: readonly T[]) {
      const rest = [...list];
      const shuffled: T[] = [];
      while (rest.length > 0) shuffled.push(...rest.splice(below(rest.length), 1));
      return shuffled;
    },
    uuid() {
      const bytes = Buffer.alloc(16);
      for (let offset = 0; offset < 16; offset += 4) bytes.writeUInt32BE(draw(), offset);
      bytes[6] = (bytes[6]! & 0x0f) | 0x40;
      bytes[8] = (bytes[8]! & 0x3f) | 0x80;
      return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
    },
  };
}

/** Chris Doty-Humphrey's small fast counting generator: 128 bits of state, 32 bits a draw. */
function sfc32(seed: Buffer): () => number {
  let a = seed.readUInt32LE(0);
  let b = seed.readUInt32LE(4);
  let c = seed.readUInt32LE(8);
  let counter = seed.readUInt32LE(12);
  return () => {
    const drawn = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + drawn) | 0;
    return drawn >>> 0;
  };
}
