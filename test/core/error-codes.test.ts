/** The codes of errors: what users may compare with, so none changes. */
import { expect, it } from "vitest";
import { VectorError } from "../../src/conform/vector-error.js";
import { CodecsNeededError, DumpError, InflationLimitError } from "../../src/dump/bytes/errors.js";
import { UnknownRootError } from "../../src/dump/registers.js";
import { PatternError } from "../../src/dump/search/pattern.js";
import * as errors from "../../src/errors.js";
import { RecordingError } from "../../src/recording/format/error.js";
import { TraceError } from "../../src/trace/error.js";

const CODES = {
  ...{ PagingError: "ERR_PAGING", ConfigError: "ERR_CONFIG", GeneralProtectionError: "ERR_GENERAL_PROTECTION" },
  ...{ VmEntryError: "ERR_VM_ENTRY", PdpteLoadError: "ERR_PDPTE_LOAD", MemoryRangeError: "ERR_MEMORY_RANGE" },
  ...{ DisposedError: "ERR_DISPOSED", BusyError: "ERR_BUSY", PageSourceError: "ERR_PAGE_SOURCE" },
  ...{ OutOfMemoryError: "ERR_OUT_OF_MEMORY", UnsupportedError: "ERR_UNSUPPORTED", LoadError: "ERR_LOAD" },
  ...{ TableStructureError: "ERR_TABLE_STRUCTURE", StateError: "ERR_STATE", DumpError: "ERR_DUMP" },
  ...{ InflationLimitError: "ERR_INFLATION_LIMIT", CodecsNeededError: "ERR_CODECS_NEEDED" },
  ReadOnlyMemoryError: "ERR_READ_ONLY_MEMORY",
  ...{ UnknownRootError: "ERR_UNKNOWN_ROOT", RecordingError: "ERR_RECORDING", VectorError: "ERR_VECTOR" },
  ...{ PatternError: "ERR_PATTERN", TraceError: "ERR_TRACE" },
};

it("every error has the code that it always had", () => {
  const classes = {
    ...errors,
    ...{
      DumpError,
      InflationLimitError,
      CodecsNeededError,
      UnknownRootError,
      RecordingError,
      VectorError,
      PatternError,
      TraceError,
    },
  };
  const found = Object.entries(classes).map(([name, Class]) => {
    // The constructors want different things; the code is the class's.
    const error = Object.create(Class.prototype) as errors.PagingError;
    error.name = name;
    return [name, error.code];
  });
  expect(Object.fromEntries(found)).toEqual(CODES);
  expect(new errors.ConfigError("x")).toMatchObject({ name: "ConfigError", code: "ERR_CONFIG" });
});
