/** A small 4-level vector that succeeds: a user write that sets A in all entries and D in the leaf. */
export function sampleVector(): Record<string, unknown> {
  return {
    id: "sample",
    mode: "4level",
    cpu: { variant: "full", vendor: "GenuineIntel", pse36: true, pdpe1gb: true },
    maxphyaddr: 40,
    cr0: "0x80010011",
    cr3: "0x1000",
    cr4: "0x20",
    efer: "0xd00",
    ac: 0,
    pkru: "0x0",
    pkrs: "0x0",
    access: { kind: "write", cpl: 3 },
    gva: "0x123",
    entries: [
      { level: 4, gpa: "0x1000", before: "0x2007", after: "0x2027" },
      { level: 3, gpa: "0x2000", before: "0x3007", after: "0x3027" },
      { level: 2, gpa: "0x3000", before: "0x4007", after: "0x4027" },
      { level: 1, gpa: "0x4000", before: "0x5007", after: "0x5067" },
    ],
    result: { ok: true, pa: "0x5123" },
  };
}

/** The same with the leaf not writable: a page fault that changes nothing. */
export function faultingVector(): Record<string, unknown> {
  const vector = sampleVector();
  const before = ["0x2007", "0x3007", "0x4007", "0x5005"];
  const gpas = ["0x1000", "0x2000", "0x3000", "0x4000"];
  vector.entries = before.map((value, index) => ({ level: 4 - index, gpa: gpas[index], before: value, after: value }));
  vector.result = { ok: false, vector: 14, errorCode: "0x7", cr2: "0x123" };
  return vector;
}
