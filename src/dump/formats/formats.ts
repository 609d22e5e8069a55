/** Every format that is recognised by its first bytes. */
import type { ByteSource } from "../bytes/byte-source.js";
import { readExactly } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import { AVML } from "./avml.js";
import type { DumpContent } from "./content.js";
import { ELF_CORE } from "./elf.js";
import { FlattenedScan, isFlattened } from "./flattened.js";
import type { Format, ReadContext } from "./format.js";
import { KDUMP } from "./kdump.js";
import { knownFile } from "./known.js";
import { LIME } from "./lime.js";
import { MS_DUMP } from "./ms-dump.js";
import { readVmem, VMSS } from "./vmss.js";
import { isVmss } from "./vmss-tags.js";
import { XEN_CORE } from "./xen-core.js";

const FORMATS: readonly Format[] = [ELF_CORE, KDUMP, LIME, AVML, XEN_CORE, VMSS, MS_DUMP];

/** Bytes of a dump that decide which format it has, and whether it is worth unpacking the rest. */
export const FIRST_BYTES = 4096;
/** Those that recognise a format: an ELF header is the longest. */
const MAGIC_BYTES = 64;

/** Reads a dump of any format, flattened or not. Throws a DumpError. */
export function readContent(source: ByteSource, context: ReadContext): DumpContent {
  const real = realFile(source, context);
  const state = context.parts.find((part) => isVmss(headOf(part)));
  // The memory was given first, and what says where it belongs beside it.
  if (state !== undefined && !isVmss(headOf(real))) {
    const others = context.parts.filter((part) => part !== state);
    return VMSS.read(state, { ...context, parts: [real, ...others] });
  }
  if (context.parts.length === 0 && isVmem(real)) return readVmem(real);
  const format = formatOf(real);
  if (context.parts.length === 0) return withFlattening(format.read(real, context), source, real);
  if (format.takesParts !== true) {
    throw new DumpError(source.name, undefined, `expected a split kdump where there are parts, found ${format.title}`);
  }
  const parts = context.parts.map((part) => realFile(part, context));
  return withFlattening(format.read(real, { ...context, parts }), source, real);
}

/**
 * Decides by the FIRST_BYTES of a file whether it is a dump at all.
 * Throws the DumpError with which `readContent` would end.
 */
export function checkFirstBytes(source: ByteSource): void {
  if (!isFlattened(headOf(source))) formatOf(source).check?.(source);
}

/** The title of the format that a file seems to have; undefined where it is none that is recognised. */
export function seemingFormat(source: ByteSource): string | undefined {
  const head = headOf(source);
  return isFlattened(head) ? "a flattened file" : (FORMATS.find((one) => one.matches(head)) ?? knownFile(head))?.title;
}

/** Raw memory of VMware: alone of all files by its name, because nothing in it says so. */
function isVmem(source: ByteSource): boolean {
  return /\.vmem$/i.test(source.name) && seemingFormat(source) === undefined;
}

/** The file itself, or what a flattened one stands for. */
function realFile(source: ByteSource, { progress }: ReadContext): ByteSource {
  if (source.size === 0) throw new DumpError(source.name, 0, "expected a memory dump, found an empty file");
  if (!isFlattened(headOf(source))) return source;
  let scan = progress.get(source);
  if (!(scan instanceof FlattenedScan)) {
    scan = new FlattenedScan(source);
    progress.set(source, scan);
  }
  return (scan as FlattenedScan).run();
}

function withFlattening(content: DumpContent, source: ByteSource, real: ByteSource): DumpContent {
  if (source === real) return content;
  const facts = content.facts.map((fact) =>
    fact.label === "format" ? { ...fact, value: `${fact.value}; flattened` } : fact,
  );
  if (!("complete" in real) || real.complete === true) return { ...content, facts };
  const end = `the flattened file breaks off at 0x${source.size.toString(16)}`;
  return { ...content, facts, warnings: [end, ...content.warnings] };
}

function formatOf(source: ByteSource): Format {
  const head = headOf(source);
  const format = FORMATS.find((one) => one.matches(head));
  if (format === undefined) throw new DumpError(source.name, 0, refusal(head));
  return format;
}

function headOf(source: ByteSource): Uint8Array {
  return new Uint8Array(readExactly(source, 0, Math.min(MAGIC_BYTES, source.size), "the first bytes").buffer);
}

/** Why a file is refused by its first bytes. */
function refusal(head: Uint8Array): string {
  const known = knownFile(head);
  if (known !== undefined) return `expected a dump that can be read, found ${known.title} (${known.wayOn})`;
  const titles = FORMATS.map(({ title }) => title).join(", ");
  const found = Array.from(head.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return `expected ${titles}, gzip, xz or zstd, found ${found} (give the address of the first byte to read raw memory)`;
}
