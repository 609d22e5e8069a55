/**
 * The same walk in C, on the same linear memory: what the machine can do without Wasm. 4-level paging with large pages,
 * reserved bits, rights as one look-up in the permission table, accessed and dirty bits; a node addon without a library.
 */
#include <node_api.h>
#include <stdint.h>
#include <string.h>

#define P 1u
#define A 0x20u
#define D 0x40u
#define PS 0x80u
#define FAULT (1ull << 63)

/** The core's plans: what the entries of a walk have to be like for each kind of access. */
struct plan {
  uint64_t need_table, check_table, need_leaf, check_page, check_large2, check_large3, block, unused;
};

struct space {
  uint8_t *ram;
  uint64_t base, size, root, address_mask, xd_mask, fetch_code;
  uint64_t reserved[2][5];
  uint16_t permissions[16];
  struct plan plans[16];
};

static uint8_t *memory;
static struct space the_space;

static inline uint64_t fault(const struct space *s, uint64_t cause, uint32_t access) {
  return FAULT | 1u << 16 | cause | (access & (6 | s->fetch_code));
}

__attribute__((noinline)) static uint64_t walk(const struct space *s, uint64_t va, uint32_t access) {
  if ((uint64_t)((int64_t)(va << 16) >> 16) != va) return FAULT | 2u << 16;
  uint64_t table = s->root, all = ~0ull, any = 0;
  for (int level = 4;; level--) {
    const int shift = 3 + 9 * level;
    const uint64_t offset = table + ((va >> shift & 511) << 3) - s->base;
    if (offset >= s->size) return FAULT | 6u << 16;
    uint64_t *at = (uint64_t *)(s->ram + offset);
    const uint64_t entry = *at;
    if (!(entry & P)) return fault(s, 0, access);
    if (entry & s->reserved[entry >> 7 & 1][level - 1]) return fault(s, 9, access);
    all &= entry;
    any |= entry;
    const int leaf = level == 1 || (entry & PS);
    if (!leaf) {
      if (!(entry & A)) *at = entry | A;
      table = entry & s->address_mask;
      continue;
    }
    const unsigned rights = (all & 6) | !(any & s->xd_mask);
    if (s->permissions[access >> 1 & 15] >> rights & 1) return fault(s, 1, access);
    const uint64_t wanted = entry | A | (access & 2 ? D : 0);
    if (wanted != entry) *at = wanted;
    const uint64_t offsets = (1ull << shift) - 1;
    return (entry & s->address_mask & ~offsets) | (va & offsets);
  }
}

static uint64_t argument(napi_env env, napi_value value) {
  int64_t number = 0;
  napi_get_value_int64(env, value, &number);
  return (uint64_t)number;
}

/** attach(ArrayBuffer, Uint8Array of a struct space whose `ram` is an offset) */
static napi_value attach(napi_env env, napi_callback_info info) {
  size_t count = 2, length;
  napi_value args[2];
  void *bytes;
  napi_get_cb_info(env, info, &count, args, NULL, NULL);
  napi_get_arraybuffer_info(env, args[0], (void **)&memory, &length);
  napi_get_typedarray_info(env, args[1], NULL, &length, &bytes, NULL, NULL);
  memcpy(&the_space, bytes, sizeof the_space);
  the_space.ram = memory + (uintptr_t)the_space.ram;
  return NULL;
}

/** batch(input, output, count, access): offsets into the memory */
static napi_value batch(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value args[4];
  napi_get_cb_info(env, info, &count, args, NULL, NULL);
  const uint64_t *input = (uint64_t *)(memory + argument(env, args[0]));
  uint64_t *output = (uint64_t *)(memory + argument(env, args[1]));
  const uint64_t n = argument(env, args[2]);
  const uint32_t access = argument(env, args[3]);
  for (uint64_t i = 0; i < n; i++) output[i] = walk(&the_space, input[i], access);
  return NULL;
}

/**
 * The same by the core's plans: the entries are gathered and tested once, what is not the common case is walked again.
 */
static inline uint64_t walk_by_plan(const struct space *s, const struct plan *p, uint64_t va, uint32_t access) {
  if ((va + (1ull << 47)) >> 48 || p->block) return walk(s, va, access);
  uint64_t table = s->root, wrong = 0;
  for (int shift = 39; shift > 12; shift -= 9) {
    const uint64_t offset = table + ((va >> shift & 511) << 3) - s->base;
    if (offset >= s->size) return walk(s, va, access);
    const uint64_t entry = *(uint64_t *)(s->ram + offset);
    wrong |= entry ^ p->need_table;
    table = entry & s->address_mask;
  }
  const uint64_t offset = table + ((va >> 12 & 511) << 3) - s->base;
  if (offset >= s->size) return walk(s, va, access);
  const uint64_t leaf = *(uint64_t *)(s->ram + offset);
  if ((wrong & p->check_table) | ((leaf ^ p->need_leaf) & p->check_page)) return walk(s, va, access);
  return (leaf & s->address_mask) | (va & 0xfff);
}

/** batchByPlan(input, output, count, access) */
static napi_value batch_by_plan(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value args[4];
  napi_get_cb_info(env, info, &count, args, NULL, NULL);
  const uint64_t *input = (uint64_t *)(memory + argument(env, args[0]));
  uint64_t *output = (uint64_t *)(memory + argument(env, args[1]));
  const uint64_t n = argument(env, args[2]);
  const uint32_t access = argument(env, args[3]);
  const struct space s = the_space;
  const struct plan p = s.plans[access >> 1 & 15];
  for (uint64_t i = 0; i < n; i++) output[i] = walk_by_plan(&s, &p, input[i], access);
  return NULL;
}

#define BLOCK 256

/** blocks(input, output, count, access): the core's block kernel, a pass a level; `count` is a multiple of 256. */
static napi_value blocks(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value args[4];
  napi_get_cb_info(env, info, &count, args, NULL, NULL);
  const uint64_t *input = (uint64_t *)(memory + argument(env, args[0]));
  uint64_t *output = (uint64_t *)(memory + argument(env, args[1]));
  const uint64_t n = argument(env, args[2]);
  const uint32_t access = argument(env, args[3]);
  const struct space s = the_space;
  const struct plan p = s.plans[access >> 1 & 15];
  // The size is a power of two, and the slot begins at 0 (bench/machine.ts).
  const uint64_t window = s.size - 1;
  static uint64_t wrong[BLOCK], table[BLOCK], leaves[BLOCK];
  for (uint64_t first = 0; first < n; first += BLOCK) {
    const uint64_t *from = input + first;
    uint64_t *to = output + first;
    for (int i = 0; i < BLOCK; i++) table[i] = s.root, wrong[i] = p.block | ((from[i] + (1ull << 47)) >> 48);
    for (int shift = 39; shift > 12; shift -= 9)
      for (int i = 0; i < BLOCK; i++) {
        const uint64_t entry = *(uint64_t *)(s.ram + table[i] + ((from[i] >> shift & 511) << 3));
        const uint64_t next = entry & s.address_mask;
        wrong[i] |= ((entry ^ p.need_table) & p.check_table) | (next & ~window);
        table[i] = next & window;
      }
    for (int i = 0; i < BLOCK; i++) leaves[i] = *(uint64_t *)(s.ram + table[i] + ((from[i] >> 12 & 511) << 3));
    uint64_t any = 0;
    for (int i = 0; i < BLOCK; i++) {
      wrong[i] |= (leaves[i] ^ p.need_leaf) & p.check_page;
      any |= wrong[i];
      to[i] = (leaves[i] & s.address_mask) | (from[i] & 0xfff);
    }
    if (any)
      for (int i = 0; i < BLOCK; i++)
        if (wrong[i]) to[i] = walk(&s, from[i], access);
  }
  return NULL;
}

struct leaf {
  uint64_t va, pa, entry;
  uint32_t rights, level;
};

/** Records go to a buffer that is used again when it holds 1,024, as a caller that consumes them would. */
static struct leaf *buffer;
static uint64_t listed;

static struct leaf *list(const struct space *s, struct leaf *out, uint64_t table, uint64_t va, uint32_t above, int level) {
  if (table - s->base >= s->size) return out;
  const uint64_t *entries = (uint64_t *)(s->ram + (table - s->base));
  const int shift = 3 + 9 * level;
  if (level == 1 && out - buffer > 512) {
    listed += out - buffer;
    out = buffer;
  }
  for (uint64_t i = 0; i < 512; i++) {
    const uint64_t entry = entries[i];
    if (!(entry & P) || (entry & s->reserved[entry >> 7 & 1][level - 1])) continue;
    const uint32_t rights = above & ((entry & 6) | !(entry & s->xd_mask));
    const uint64_t at = va + (i << shift);
    if (level == 1 || (entry & PS)) {
      out->va = (uint64_t)((int64_t)(at << 16) >> 16);
      out->pa = entry & s->address_mask & ~((1ull << shift) - 1);
      out->entry = entry;
      out->rights = rights;
      out->level = level;
      out++;
    } else {
      out = list(s, out, entry & s->address_mask, at, rights, level - 1);
    }
  }
  return out;
}

/** enumerate(output): number of leaves, the last of which are at that offset */
static napi_value enumerate(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value args[1], result;
  napi_get_cb_info(env, info, &count, args, NULL, NULL);
  buffer = (struct leaf *)(memory + argument(env, args[0]));
  listed = 0;
  const struct leaf *end = list(&the_space, buffer, the_space.root, 0, 7, 4);
  napi_create_uint32(env, (uint32_t)(listed + (end - buffer)), &result);
  return result;
}

/** A software TLB: a page for one kind of access, under the number that its PCID has now, 0 of global pages. */
struct cached {
  uint64_t key;
  uint64_t frame;
};

#define MOST_CACHED 65536
#define ACCESS_AC 32
static struct cached cache[MOST_CACHED];
static uint32_t number_of[4096], last_number;

/** bench/boot/stream.ts */
enum { OP_ACCESS, OP_EDIT, OP_CR3, OP_INVLPG, OP_INVPCID, OP_REGISTERS, OP_FAULT };

static inline void drop_all(void) {
  memset(cache, 0, sizeof cache);
}

static inline uint32_t number(uint32_t pcid) {
  if (number_of[pcid] == 0) number_of[pcid] = ++last_number;
  return number_of[pcid];
}

/** The key of a page, `kind` being bits 4:1 of the access, under `context`. */
static inline uint64_t key_of(uint64_t va, uint32_t kind, uint32_t context) {
  return (va & 0xfffffffff000) << 16 | (uint64_t)context << 4 | kind;
}

/** Whether the leaf that maps `va` is global. */
static int is_global(const struct space *s, uint64_t va) {
  uint64_t table = s->root;
  for (int level = 4;; level--) {
    const uint64_t entry = *(uint64_t *)(s->ram + table + ((va >> (3 + 9 * level) & 511) << 3));
    if (level == 1 || (entry & PS)) return entry >> 8 & 1;
    table = entry & s->address_mask;
  }
}

/** boot(op, access, high, low, place, value, count, entries): the stream, with a software TLB where `entries` is not 0: the sum of all physical addresses */
static napi_value boot(napi_env env, napi_callback_info info) {
  size_t argc = 8, length;
  napi_value args[8], result;
  void *arrays[6];
  napi_get_cb_info(env, info, &argc, args, NULL, NULL);
  for (int i = 0; i < 6; i++) napi_get_typedarray_info(env, args[i], NULL, &length, &arrays[i], NULL, NULL);
  const uint8_t *op = arrays[0], *access = arrays[1];
  const uint32_t *high = arrays[2], *low = arrays[3], *place = arrays[4];
  const uint64_t *value = arrays[5];
  const uint64_t n = argument(env, args[6]);
  const uint32_t mask = argument(env, args[7]) ? argument(env, args[7]) - 1 : 0;
  struct space s = the_space;
  drop_all();
  uint32_t pcid = 0, context = number(0);
  double sum = 0;
  for (uint64_t i = 0; i < n; i++) {
    const uint64_t va = (uint64_t)high[i] << 32 | low[i];
    if (op[i] == OP_ACCESS || op[i] == OP_FAULT) {
      // The place of AC among bits 4:1 is that of the reserved bit.
      const uint32_t code = (access[i] & 22) | (access[i] & ACCESS_AC ? 8 : 0);
      if (mask == 0) {
        const uint64_t pa = walk(&s, va, code);
        sum += pa & FAULT ? 0 : pa;
        continue;
      }
      struct cached *at = &cache[(va >> 12 ^ va >> 24) & mask];
      const uint64_t under = key_of(va, code >> 1 & 15, context), global = key_of(va, code >> 1 & 15, 0);
      if (at->key == under || at->key == global) {
        sum += at->frame | (va & 0xfff);
        continue;
      }
      const uint64_t pa = walk(&s, va, code);
      if (!(pa & FAULT)) {
        at->key = is_global(&s, va) ? global : under;
        at->frame = pa & ~0xfffull;
      }
      sum += pa & FAULT ? 0 : pa;
    } else if (op[i] == OP_EDIT) {
      *(uint64_t *)(s.ram + place[i]) = value[i];
    } else if (op[i] == OP_CR3) {
      s.root = value[i] & s.address_mask;
      pcid = value[i] & 0xfff;
      if (!(value[i] >> 63)) number_of[pcid] = 0;
      if (last_number > 0xff0) {
        drop_all();
        memset(number_of, 0, sizeof number_of);
        last_number = 0;
      }
      context = number(pcid);
    } else if (op[i] == OP_INVLPG) {
      cache[(va >> 12 ^ va >> 24) & mask].key = 0;
    } else if (op[i] == OP_INVPCID) {
      if (access[i] == 0) cache[(va >> 12 ^ va >> 24) & mask].key = 0;
      else if (access[i] == 1) number_of[value[i] & 0xfff] = 0, context = number(pcid);
      else drop_all();
    }
  }
  napi_create_double(env, sum, &result);
  return result;
}

/** What an emulator's MMU keeps beside its tables, for the operations below: each is a call of its own, as in an emulator. */
static struct mmu {
  struct space space;
  uint32_t pcid, context, pkru;
  struct cached cache[1024];
} mmu;

#define APART __attribute__((noinline)) static

APART void write_cr3(struct mmu *m, uint64_t value) {
  m->space.root = value & m->space.address_mask;
  m->pcid = value & 0xfff;
  if (!(value >> 63)) number_of[m->pcid] = 0;
  if (last_number > 0xff0) {
    memset(m->cache, 0, sizeof m->cache);
    memset(number_of, 0, sizeof number_of);
    last_number = 0;
  }
  m->context = number(m->pcid);
}

APART void invlpg(struct mmu *m, uint64_t va) {
  struct cached *at = &m->cache[(va >> 12 ^ va >> 24) & 1023];
  if (at->key >> 28 == (va & 0xfffffffff000) >> 12) at->key = 0;
}

APART void wrpkru(struct mmu *m, uint32_t value) {
  m->pkru = value;
}

/** A walk, and an entry for what it gives; a fault is as large as what the walk gives. */
APART uint64_t fill(struct mmu *m, uint64_t va, uint32_t access) {
  const uint64_t pa = walk(&m->space, va, access);
  if (pa & FAULT) return pa;
  struct cached *at = &m->cache[(va >> 12 ^ va >> 24) & 1023];
  at->key = key_of(va, access >> 1 & 15, is_global(&m->space, va) ? 0 : m->context);
  at->frame = pa & ~0xfffull;
  return pa;
}

APART uint64_t read_across(struct mmu *m, uint64_t va) {
  const uint64_t first = walk(&m->space, va, 0), second = walk(&m->space, va + 4 & ~0xfffull, 0);
  if ((first | second) & FAULT) return FAULT;
  const int here = 4096 - (va & 0xfff);
  uint32_t value = 0;
  memcpy(&value, m->space.ram + first % m->space.size, here);
  memcpy((char *)&value + here, m->space.ram + second % m->space.size, 4 - here);
  return value;
}

/** operation(number, count, root): so many of bench/registers.ts's NATIVE_OPERATIONS */
static napi_value operation(napi_env env, napi_callback_info info) {
  size_t argc = 3;
  napi_value args[3], result;
  napi_get_cb_info(env, info, &argc, args, NULL, NULL);
  const uint64_t what = argument(env, args[0]), n = argument(env, args[1]), root = argument(env, args[2]);
  mmu.space = the_space;
  uint64_t sum = 0;
  for (uint64_t i = 0; i < n; i++) {
    if (what == 0) write_cr3(&mmu, root);
    else if (what == 1) write_cr3(&mmu, root | 1 + (i & 1) | 1ull << 63);
    else if (what == 2) invlpg(&mmu, i << 12);
    else if (what == 3) wrpkru(&mmu, i);
    else if (what == 4) sum += fill(&mmu, 0x1000 + (i << 12), 0);
    else if (what == 5) sum += fill(&mmu, 0x80000000 + (i << 12), 0);
    else sum += read_across(&mmu, (i << 12) + 0xffe);
  }
  napi_create_double(env, (double)sum, &result);
  return result;
}

static void export(napi_env env, napi_value exports, const char *name, napi_callback call) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, call, NULL, &function);
  napi_set_named_property(env, exports, name, function);
}

NAPI_MODULE_INIT() {
  export(env, exports, "attach", attach);
  export(env, exports, "batch", batch);
  export(env, exports, "batchByPlan", batch_by_plan);
  export(env, exports, "blocks", blocks);
  export(env, exports, "enumerate", enumerate);
  export(env, exports, "boot", boot);
  export(env, exports, "operation", operation);
  return exports;
}
