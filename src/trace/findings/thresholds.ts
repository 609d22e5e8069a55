/** From where on something is a finding: below, it is what a healthy virtual machine does too. */

/** Roots: got again so often although nothing was seen to lose them, */
export const ROOT_MISSES = 8;
/** so often where there are no kvm events, */
export const BLIND_ROOT_MISSES = 16;
/** and on so many of the switches of that kind. */
export const ROOT_MISS_SHARE = 0.75;
/** Roots that KVM keeps: the current one and those before (KVM_MMU_NUM_PREV_ROOTS). */
export const KEPT_ROOTS = 4;

/** A page was zapped and made again so often, */
export const CHURN_ROUNDS = 8;
/** with no more than so many seconds between zap and making. */
export const CHURN_GAP = 1;
/** Or so often all shadowed tables together, */
export const SPREAD_CHURN_ROUNDS = 256;
/** of those that were so often each: tables that a guest gives to another process once are no loop. */
export const SPREAD_CHURN_LEAST = 3;

/** Roles of one frame at one level, */
export const ROLES_OF_A_FRAME = 4;
/** or two that differ in more than rights, taken in turns so often, */
export const CONTEXT_TURNS = 8;
/** or in rights alone; */
export const ROLE_TURNS = 16;
/** or one role as printed, made so often without a zap: the bits that are not printed have fewer combinations in use. */
export const UNPRINTED_ROLES = 16;

/** Faults on one page that changed nothing, */
export const SPURIOUS_FAULTS = 8;
/** or of a vCPU on any pages, */
export const SPREAD_SPURIOUS_FAULTS = 128;
/** where they are so many of its faults (vCPUs that fault on one page at once make a few in a hundred), */
export const SPREAD_SPURIOUS_SHARE = 0.25;
/** and each page has so many of them on average: it is the same pages again. */
export const SPREAD_SPURIOUS_ROUNDS = 3;

/** Huge pages split for one reason. */
export const SPLITS = 8;

/**
 * Zap-alls in a burst. Firmware moves memslots with every PAM register, BAR and ROM that it sets up, over before the guest has
 * memory that it would miss: a dozen with SeaBIOS, two with more devices, within a second or two, and never again.
 */
export const ZAP_ALLS = 32;
/** Fewer that are felt: so many, */
export const FELT_ZAP_ALLS = 8;
/** that made so many pages obsolete all together, as far as they are counted or are made again, */
export const ZAP_ALL_PAGES = 1024;
/** within so many seconds. */
export const ZAP_ALL_WINDOW = 2;
/** Or so many that go on, slowly, */
export const STEADY_ZAP_ALLS = 16;
/** without a pause of so many seconds, */
export const ZAP_ALL_PAUSE = 10;
/** for so many seconds at least: longer than firmware takes. */
export const STEADY_ZAP_ALL_TIME = 6;

/** Objects that a detector follows at once; those beyond are not looked at, which is said. */
export const FOLLOWED = 2 ** 16;
/** Findings of one kind that are told apart; the rest is counted. */
export const SHOWN_OF_A_KIND = 16;
