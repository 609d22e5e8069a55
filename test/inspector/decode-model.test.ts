/** The Decode view says of a word what the command says: over its fields, problems, kinds and conversions. */
import { describe, expect, it } from "vitest";
import { chosenOf, DECODERS, decodedOf, paramsOf } from "../../web/views/decode/decoders.js";
import { type Decoded, withField } from "../../web/views/decode/model.js";
import { run } from "../cli/run-main.js";
import { randomNumbers } from "../random-numbers.js";

const random = randomNumbers(19);
const words = (bits: number, count: number): bigint[] =>
  Array.from({ length: count }, () => BigInt.asUintN(bits, (BigInt(random(2 ** 32)) << 32n) | BigInt(random(2 ** 32))));

async function json(...args: string[]) {
  const { code, stdout, stderr } = await run([...args, "--json"]);
  expect(stderr).toBe("");
  expect(code).toBe(0);
  return JSON.parse(stdout);
}

function decode(kind: string, word: bigint, params: Record<string, string> = {}): Decoded {
  const decoded = decodedOf(chosenOf({ kind, word: word.toString(16), ...params }));
  expect(decoded).not.toHaveProperty("problem");
  return decoded as Decoded;
}

const hex = (value: bigint) => `0x${value.toString(16)}`;
/** Fields by place; runs that are split into bits count bit by bit. */
const bitsOf = (fields: readonly { low: number; width: number; value: bigint | string }[]) =>
  fields.reduce((word, { low, value }) => word | (BigInt(value) << BigInt(low)), 0n);

describe("the Decode view's words", () => {
  it.each(DECODERS.map(({ id, title }) => [id, title]))("have every bit of %s (%s) in one field", (id) => {
    const { decoder, options } = chosenOf({ kind: id });
    for (const word of [0n, decoder.example, ...words(decoder.bits(options), 5)]) {
      const { fields } = decode(id, word);
      const places = fields.flatMap(({ low, width }) => Array.from({ length: width }, (_, bit) => low + bit));
      expect(places.sort((a, b) => a - b)).toEqual(Array.from({ length: decoder.bits(options) }, (_, bit) => bit));
      expect(bitsOf(fields)).toBe(word);
    }
  });

  it.each([
    ["4level", "1"],
    ["4level", "3"],
    ["5level", "5"],
    ["pae", "3"],
    ["pae", "2"],
    ["32bit", "2"],
    ["ept5", "2"],
  ])("are entries as pte has them: %s, level %s", async (mode, level) => {
    const bits = mode === "32bit" ? 32 : 64;
    for (const word of words(bits, 20)) {
      const cli = mode === "ept5" ? "ept" : mode;
      const said = await json(
        "pte",
        hex(word),
        "--mode",
        cli,
        "--level",
        level,
        "--maxphyaddr",
        "46",
        "--amd",
        "--all",
      );
      const { fields, problems, title, summary } = decode("pte", word, { mode, level, maxphyaddr: "46", amd: "on" });
      expect(title).toBe(said.name);
      expect(problems).toEqual(said.problems);
      expect(summary.startsWith(said.kind === "page" ? `${mode === "32bit" ? "4M" : ""}` : said.kind)).toBe(true);
      if (said.address !== null) expect(summary).toContain(said.address);
      const named = fields.filter(({ name }) => name !== "" && name !== "rsvd");
      const read = said.fields.filter(({ use }: { use: string }) => use === "read");
      expect(
        named.map(({ name, low, width, value, meaning, text }) => ({
          name,
          low,
          width,
          value: hex(value),
          use: "read",
          meaning,
          ...(text && { text }),
        })),
      ).toEqual(read);
    }
  });

  it.each(DECODERS.filter(({ id }) => !["pte", "spte", "role"].includes(id)).map(({ id }) => id))(
    "are what decode %s says",
    async (id) => {
      const { decoder, options } = chosenOf({ kind: id });
      for (const word of [decoder.example, ...words(decoder.bits(options), 5)]) {
        const said = await json("decode", id, hex(word));
        const { title, summary, problems, source, fields } = decode(id, word);
        expect({ title, summary, problems, source }).toEqual({
          title: said.title,
          summary: said.summary,
          problems: said.problems,
          source: said.source,
        });
        for (const { name, low, width, value, text } of said.fields) {
          if (name === "RESERVED") continue;
          expect(fields).toContainEqual(
            expect.objectContaining({ name, low, width, value: BigInt(value), ...(text && { text }) }),
          );
        }
      }
    },
  );

  it.each(["4.19", "5.13", "6.12", "7.2"])("are SPTEs as spte --kernel %s has them", async (kernel) => {
    const { layout } = await json("spte", "0", "--kernel", kernel, "--format", "ept");
    for (const format of ["shadow", "npt", "ept"]) {
      for (const word of [0n, 0x8ab3827n, 0x0600000000200bf7n, ...words(64, 10)]) {
        const said = await json("spte", hex(word), "--kernel", kernel, "--format", format);
        const { facts, problems, fields } = decode("spte", word, { kernel: layout, format });
        const fact = Object.fromEntries(facts);
        expect(fact.address ?? null).toBe(said.mmio === null ? said.address : null);
        expect(fact.generation ?? null).toBe(said.mmio === null ? null : `${said.mmio.generation}`);
        expect((fact.unknown ?? "0x0").split(":")[0]).toBe(said.unknown);
        expect(problems).toEqual(said.brokenInvariants);
        for (const { name, value } of said.fields) {
          expect(fields).toContainEqual(expect.objectContaining({ name, value: BigInt(value) }));
        }
      }
    }
  });

  it.each(["5.1", "5.19", "7.2", "project"])(
    "are roles as role --kernel %s has them, and converts them",
    async (kernel) => {
      for (const word of [0x3704n, 0x8100003704n, ...words(64, 10), ...words(32, 10)]) {
        const said = await json("role", hex(word), "--kernel", kernel);
        const { fields, eras } = decode("role", word, { kernel });
        for (const half of [said.base, said.ext ?? { fields: {} }]) {
          for (const [name, value] of Object.entries(half.fields)) {
            expect(fields).toContainEqual(expect.objectContaining({ name, value: BigInt(value as number) }));
          }
        }
        for (const era of eras!) {
          const converted = await json("role", "convert", hex(word), "--from", kernel, "--to", era.era);
          expect(hex(era.word!)).toBe(converted.converted);
          for (const { field, value } of converted.lost) expect(era.text).toContain(`lost ${field}=${value}`);
        }
      }
    },
  );
});

describe("what stands in the URL", () => {
  it("leads back to what is shown", () => {
    const chosen = chosenOf({ kind: "pte", word: "1e7", mode: "32bit", level: "2", pse: "" });
    expect(paramsOf(chosen)).toEqual({ kind: "pte", word: "1e7", mode: "32bit", level: "2", pse: "" });
    expect(chosenOf(paramsOf(chosen) as Record<string, string>)).toEqual(chosen);
  });

  it.each([
    [{ kind: "<script>" }, { kind: "pte" }],
    [
      { kind: "pte", mode: "ept9", level: "77" },
      { mode: undefined, level: undefined },
    ],
    [
      { kind: "pte", mode: "pae", level: "5" },
      { mode: "pae", level: undefined },
    ],
    [{ kind: "pte", maxphyaddr: "99" }, { maxphyaddr: undefined }],
    [{ kind: "cr4", word: "no word" }, { word: "3506e0" }],
    [{ kind: "pkru", word: "123456789" }, { word: "23456789" }],
  ])("%j means nothing that is not", (params, expected) => {
    expect(paramsOf(chosenOf(params as Record<string, string>))).toMatchObject(
      Object.fromEntries(Object.entries(expected).filter(([, value]) => value !== undefined)),
    );
    const found = paramsOf(chosenOf(params as Record<string, string>));
    for (const [name, value] of Object.entries(expected))
      if (value === undefined) expect(found).not.toHaveProperty(name, (params as Record<string, string>)[name]);
  });

  it("changes a field and nothing else", () => {
    expect(withField(0xffffffffffffffffn, { low: 12, width: 40 }, 0n)).toBe(0xfff0000000000fffn);
    expect(withField(0n, { low: 63, width: 1 }, 1n)).toBe(1n << 63n);
    expect(withField(0n, { low: 3, width: 3 }, 0xffn)).toBe(0x38n);
  });
});
