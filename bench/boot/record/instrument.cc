// Instrumentation for Bochs that records what a processor asks of its MMU. $BOOT_STREAM is the file to write, $BOOT_START the
// instruction to begin after (0: the first one of user code), $BOOT_EVENTS the number of records: a kind (1 byte) and two numbers (8 bytes each), little endian.
//
//   access    linear address; flags (write 2, user 4, fetch 16, AC 32) | physical address << 16, of a fetch 0
//   edit      physical address of an entry; the entry, when a walk meets it first or finds it changed
//   cr3       the register as written, bit 63 included
//   invlpg    linear address
//   invpcid   linear address; type | PCID << 8
//   registers CR0 | CR4 << 32; EFER
//   fault     linear address; flags | error code << 32
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <unordered_map>
#include "bochs.h"
#include "cpu/cpu.h"
#include "memory/memory-bochs.h"

#if BX_INSTRUMENTATION

enum { ACCESS, EDIT, CR3, INVLPG, INVPCID, REGISTERS, FAULT };
enum { WRITE = 2, USER = 4, FETCH = 16, AC = 32 };

static const Bit64u FRAME = 0xffffffffff000ULL;
static const Bit64u PRESENT = 1, US = 4, ACCESSED_DIRTY = 0x60, LARGE = 0x80;
static const Bit64u NOWHERE = ~0ULL;
static const unsigned SEEN = 4096;

// Of the last INVPCID: set where it is executed.
Bit64u boot_invpcid_address, boot_invpcid_pcid;

static FILE *out;
static Bit64u start, limit, done, instructions, fetched = NOWHERE;
static bool recording;
// Entries as they were recorded, by physical address.
static std::unordered_map<Bit64u, Bit64u> known;
// Walks that need not be made again, until something is invalidated.
static struct { Bit64u page; bool user; } seen[SEEN];

static void put(Bit8u kind, Bit64u first, Bit64u second)
{
  fwrite(&kind, 1, 1, out);
  fwrite(&first, 8, 1, out);
  fwrite(&second, 8, 1, out);
  if (++done < limit) return;
  fclose(out);
  _exit(0);
}

static void forget()
{
  for (unsigned i = 0; i < SEEN; i++) seen[i].page = NOWHERE;
  fetched = NOWHERE;
}

static Bit64u entryAt(Bit64u place)
{
  Bit64u entry = 0;
  BX_MEM(0)->dbg_fetch_mem(BX_CPU(0), place, 8, (Bit8u *) &entry);
  auto found = known.find(place);
  if (found == known.end() || ((found->second ^ entry) & ~ACCESSED_DIRTY)) {
    known[place] = entry;
    put(EDIT, place, entry);
  }
  return entry;
}

// Records the entries of a walk. Whether user code may go that way: accesses of the processor itself are not user code's.
static bool walk(Bit64u address)
{
  auto &last = seen[(address >> 12) % SEEN];
  if (last.page == address >> 12) return last.user;
  Bit64u table = BX_CPU(0)->cr3 & FRAME;
  bool user = true;
  for (int level = 4; level > 0; level--) {
    Bit64u entry = entryAt(table + ((address >> (9 * level)) & 0xff8));
    if (!(entry & PRESENT)) {
      user = false;
      break;
    }
    if (!(entry & US)) user = false;
    if (level < 4 && (entry & LARGE)) break;
    table = entry & FRAME;
  }
  last.page = address >> 12;
  last.user = user;
  return user;
}

static bool isLong() { return BX_CPU(0)->cr0.get_PG() && BX_CPU(0)->efer.get_LMA(); }
static bool isUser() { return BX_CPU(0)->sregs[BX_SEG_REG_CS].selector.rpl == 3; }
static Bit64u ac() { return BX_CPU(0)->get_AC() ? AC : 0; }

static void putRegisters()
{
  put(REGISTERS, BX_CPU(0)->cr0.get32() | ((Bit64u) BX_CPU(0)->cr4.get() << 32), BX_CPU(0)->efer.get32());
}

void bx_instr_init_env(void)
{
  const char *name = getenv("BOOT_STREAM");
  if (!name) return;
  out = fopen(name, "wb");
  start = strtoull(getenv("BOOT_START"), NULL, 0);
  limit = strtoull(getenv("BOOT_EVENTS"), NULL, 0);
}

void bx_instr_exception(unsigned cpu, unsigned vector, unsigned error_code)
{
  if (!recording || vector != 14) return;
  Bit64u address = BX_CPU(0)->cr2;
  auto &last = seen[(address >> 12) % SEEN];
  last.page = NOWHERE;
  walk(address);
  put(FAULT, address, (error_code & (WRITE | USER | FETCH)) | ac() | ((Bit64u) error_code << 32));
  last.page = NOWHERE;
  fetched = NOWHERE;
}

void bx_instr_tlb_cntrl(unsigned cpu, unsigned what, bx_phy_address value)
{
  if (!recording) return;
  if (what == BX_INSTR_INVLPG) put(INVLPG, value, 0);
  else if (what == BX_INSTR_INVPCID) put(INVPCID, boot_invpcid_address, value | (boot_invpcid_pcid << 8));
  else if (what == BX_INSTR_MOV_CR3) put(CR3, value, 0);
  else putRegisters();
  forget();
}

void bx_instr_before_execution(unsigned cpu, bxInstruction_c *i)
{
  instructions++;
  if (!out || !isLong()) return;
  if (!recording) {
    if (start ? instructions < start : !isUser()) return;
    recording = true;
    forget();
    putRegisters();
    put(CR3, BX_CPU(0)->cr3, 0);
  }
  Bit64u rip = BX_CPU(0)->prev_rip + BX_CPU(0)->get_segment_base(BX_SEG_REG_CS);
  Bit64u page = (rip >> 12) << 1 | isUser();
  if (page == fetched) return;
  fetched = page;
  walk(rip);
  put(ACCESS, rip, FETCH | (isUser() ? USER : 0));
}

void bx_instr_lin_access(unsigned cpu, bx_address lin, bx_address phy, unsigned len, unsigned memtype, unsigned rw)
{
  if (!recording || !isLong()) return;
  bool user = walk(lin) && isUser();
  bool reads = rw == BX_READ || rw == BX_EXECUTE;
  put(ACCESS, lin, (reads ? 0 : WRITE) | (user ? USER : ac()) | ((Bit64u) phy << 16));
}

void bx_instr_exit_env(void) {}
void bx_instr_initialize(unsigned cpu) {}
void bx_instr_exit(unsigned cpu) {}
void bx_instr_reset(unsigned cpu, unsigned type) {}
void bx_instr_hlt(unsigned cpu) {}
void bx_instr_mwait(unsigned cpu, bx_phy_address addr, unsigned len, Bit32u flags) {}
void bx_instr_debug_promt() {}
void bx_instr_debug_cmd(const char *cmd) {}
void bx_instr_near_branch_taken(unsigned cpu, unsigned what, bx_address from, bx_address to) {}
void bx_instr_near_branch_not_taken(unsigned cpu, bx_address from) {}
void bx_instr_far_branch(unsigned cpu, unsigned what, Bit16u old_cs, bx_address from, Bit16u cs, bx_address to) {}
void bx_instr_opcode(unsigned cpu, bxInstruction_c *i, const Bit8u *opcode, unsigned len, bool is32, bool is64) {}
void bx_instr_interrupt(unsigned cpu, unsigned vector) {}
void bx_instr_hwinterrupt(unsigned cpu, unsigned vector, Bit16u cs, bx_address eip) {}
void bx_instr_clflush(unsigned cpu, bx_address laddr, bx_phy_address paddr) {}
void bx_instr_cache_cntrl(unsigned cpu, unsigned what) {}
void bx_instr_prefetch_hint(unsigned cpu, unsigned what, unsigned seg, bx_address offset) {}
void bx_instr_after_execution(unsigned cpu, bxInstruction_c *i) {}
void bx_instr_repeat_iteration(unsigned cpu, bxInstruction_c *i) {}
void bx_instr_inp(Bit16u addr, unsigned len) {}
void bx_instr_inp2(Bit16u addr, unsigned len, unsigned val) {}
void bx_instr_outp(Bit16u addr, unsigned len, unsigned val) {}
void bx_instr_phy_access(unsigned cpu, bx_address phy, unsigned len, unsigned memtype, unsigned rw) {}
void bx_instr_cpuid(unsigned cpu) {}
void bx_instr_wrmsr(unsigned cpu, unsigned addr, Bit64u value) {}
void bx_instr_vmexit(unsigned cpu, Bit32u reason, Bit64u qualification) {}

#endif
