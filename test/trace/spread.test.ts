/** Causes that are spread: over many pages, over much time, or over roles that look the same. */
import { describe, expect, it } from "vitest";
import { thresholds } from "../../src/trace/index.js";
import { codesOf, findingsOf } from "./found.js";
import * as t from "./writers/script.js";
import { TraceScript } from "./writers/script.js";

const TABLE = "l1 8-byte q0 wux nxe ad";
const ROOT = "l4 8-byte q0 wux nxe ad";
const start = () => new TraceScript().on(0, t.got(0x100, ROOT, "new"), t.entry());
const touch = (address: number, ...bodies: string[]) => [t.exit(), t.fault(address, 0x100000007), ...bodies, t.entry()];

describe("page-churn over many tables", () => {
  const churn = (
    tables: number,
    rounds: number,
    zap: (index: number) => string[] = (index) => [t.zapped(0x300 + index, TABLE)],
  ) =>
    start().times(rounds, (script) =>
      script
        .times(tables, (one, index) => one.on(0, ...touch(0x7000, t.got(0x300 + index, TABLE, "new"))))
        .times(tables, (one, index) => one.on(0, ...touch((0x300 + index) * 4096, ...zap(index)))),
    );

  it("is one finding where each has few rounds, and says by what", async () => {
    const [finding, ...others] = await findingsOf(churn(200, 5));
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ code: "page-churn", count: 800 });
    expect(finding!.message).toContain("200 shadowed tables were zapped and made again 800 times in all");
    expect(finding!.details.join()).toContain("flooding");
  });

  it("is none where tables are given to another process now and then, or all go at a zap-all", async () => {
    expect(await codesOf(churn(200, 3))).toEqual([]);
    expect(await codesOf(churn(20, 6))).toEqual([]);
    expect(
      await codesOf(
        churn(200, 5, (index) => [...(index === 0 ? [t.zapAll(200)] : []), t.zapped(0x300 + index, TABLE)]),
      ),
    ).toEqual([]);
  });
});

describe("spurious-faults over many pages", () => {
  const fast = (spurious: number) =>
    `fast_page_fault: vcpu 0 gva 7f000 error_code P|W|U sptep 0000000012345678 old 0x1e67 new 1e67 spurious ${spurious} fixed ${1 - spurious}`;
  const faults = (count: number, pages: number, spuriousOf: (index: number) => number = () => 1) =>
    start().times(count, (script, index) => script.on(0, ...touch((index % pages) * 4096, fast(spuriousOf(index)))));

  it("is one finding where each page has few", async () => {
    const [finding, ...others] = await findingsOf(faults(200, 50));
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ code: "spurious-faults", count: 200 });
    expect(finding!.message).toContain("200 of 200 faults changed nothing, on 50 pages");
  });

  it("is a share of the faults of the time that is asked for", async () => {
    const script = faults(1000, 50, () => 0)
      .wait(5e6)
      .times(200, (one, index) => one.on(0, ...touch((index % 50) * 4096, fast(1))));
    expect(await codesOf(script)).toEqual([]);
    expect(await codesOf(script, { since: 103 })).toEqual(["spurious-faults"]);
  });

  it("is none of vCPUs that meet on a page now and then, or where every page had one or two", async () => {
    expect(await codesOf(faults(4000, 1000, (index) => (index % 16 === 0 ? 1 : 0)))).toEqual([]);
    expect(await codesOf(faults(4080, 61, (index) => (index % 16 === 0 ? 1 : 0)))).toEqual([]);
    expect(await codesOf(faults(200, 100))).toEqual([]);
    expect(await codesOf(faults(thresholds.SPREAD_SPURIOUS_FAULTS - 1, 30))).toEqual([]);
  });
});

describe("many-roles of one printed role", () => {
  const made = (count: number, ...between: string[]) =>
    start().times(count, (script) => script.on(0, ...touch(0x7000, t.got(0x500, TABLE, "new")), ...between));

  it("is a page that is made again and again while it is there", async () => {
    const [finding, ...others] = await findingsOf(made(40));
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ code: "many-roles", count: 39, gfn: 0x500, role: TABLE });
    expect(finding!.details.join()).toContain("bits that the kernel does not print");
  });

  it("is not a few such roles, nor a page whose zaps are traced, or were lost, or are another thread's", async () => {
    expect(await codesOf(made(thresholds.UNPRINTED_ROLES))).toEqual([]);
    const zapped = made(40, t.zapped(0x500, TABLE));
    expect(await codesOf(zapped)).toEqual(["page-churn"]);
    const lost = made(40).text.replace(/^(.*gfn 500)/m, "CPU:0 [LOST 9 EVENTS]\n$1");
    expect(await codesOf(lost)).toEqual([]);
    // A memslot that goes takes the root with it, whoever traces the zaps.
    const slots = start().times(40, (script) =>
      script.on(0, t.exit("io"), t.got(0x100, ROOT, "new"), t.entry(), ...touch(0x7000, t.got(0x500, TABLE, "new"))),
    );
    expect(await codesOf(slots)).not.toContain("many-roles");
  });
});

describe("huge-page-split by tables of the guest", () => {
  const splits = (table: (base: number) => string[]) =>
    start().times(12, (script, index) => {
      const base = 0x200 * (index + 1);
      script
        .on(
          0,
          t.exit("PF excp"),
          t.fault(base * 4096, 2),
          t.setSpte(base, BigInt(base) * 4096n + 0xee7n, "rwxu", 2),
          t.entry(),
        )
        .on(0, t.exit("PF excp"), t.fault(0x40000000, 2), ...table(base), t.entry())
        .on(
          0,
          t.exit("PF excp"),
          t.fault(base * 4096, 2),
          t.got(base, "l1 8-byte q0 direct wux nxe ad", "new"),
          t.entry(),
        );
    });

  it("is named as such, under shadow paging too", async () => {
    const [finding, ...others] = await findingsOf(splits((base) => [t.got(base + 5, TABLE, "new")]));
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ code: "huge-page-split", count: 12 });
    expect(finding!.message).toContain("guest tables within them");
  });

  it("is not where the tables lie elsewhere", async () => {
    expect(await codesOf(splits((base) => [t.got(base + 0x100000, TABLE, "new")]))).toEqual([]);
  });

  it("is told from writes under nested paging", async () => {
    const nested = start().times(12, (script, index) => {
      const base = 0x200 * (index + 1);
      script
        .on(0, t.exit(), t.fault(0x1000), t.got(base + 7, TABLE, "new"), t.entry())
        .on(0, ...touch(base * 4096, t.tdpChanged(base, 2, 0x200ef7n, 0x5000827n)));
    });
    expect((await findingsOf(nested))[0]!.message).toContain("guest tables within them");
  });
});
