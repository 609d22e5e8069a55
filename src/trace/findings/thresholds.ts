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

/** Roles of one frame at one level, */
export const ROLES_OF_A_FRAME = 4;
/** or two that differ in more than rights, taken in turns so often, */
export const CONTEXT_TURNS = 8;
/** or in rights alone. */
export const ROLE_TURNS = 16;

/** Faults on one page that changed nothing. */
export const SPURIOUS_FAULTS = 8;

/** Huge pages split for one reason. */
export const SPLITS = 8;

/** Zap-alls: firmware that sets up a machine makes a dozen in a second or two, */
export const ZAP_ALLS = 16;
/** or fewer that find many pages in use, */
export const FELT_ZAP_ALLS = 8;
/** so many of them all together, */
export const ZAP_ALL_PAGES = 1024;
/** within so many seconds. */
export const ZAP_ALL_WINDOW = 2;

/** Objects that a detector follows at once; those beyond are not looked at, which is said. */
export const FOLLOWED = 2 ** 16;
/** Findings of one kind that are told apart; the rest is counted. */
export const SHOWN_OF_A_KIND = 16;
