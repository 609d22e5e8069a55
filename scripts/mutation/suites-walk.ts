/** What says how the core walks, quick ones first, run by the stand-in for vitest. */
import "./suites-done.js";
import "../../test/walk/flags.test.js";
import "../../test/walk/permissions.test.js";
import "../../test/walk/linear-address.test.js";
import "../../test/walk/two-stage.test.js";
import "../../test/walk/shared-entries.test.js";
import "../../test/walk/many-leaves.test.js";
import "../../test/core/fast.test.js";
import "../../test/core/permission-table.test.js";
import "../../test/conform/fixtures.test.js";
import "../../test/walk/reserved-bits.test.js";
import "../../test/walk/ept.test.js";
import "../../test/core/memory.test.js";
import "../../test/differential/kernels.test.js";
import { firstFailure } from "./vitest-shim.js";

globalThis.suitesDone(firstFailure());
