/** The dump view: what a dump is, its address spaces, and one of them: its map, its tables, its ranges, its pages. */
import { useEffect } from "preact/hooks";
import { dump, followUrl, openFirst, space } from "../../state/dump/session.js";
import { route } from "../../state/route.js";
import { AddressMap } from "./address-map.jsx";
import { DumpFacts } from "./facts.jsx";
import { FileChoice } from "./file-choice.jsx";
import { PageSection } from "./page-section.jsx";
import { RangeList } from "./range-list.jsx";
import { SpaceSection } from "./space-section.jsx";

export function DumpView() {
  const { params } = route.value;
  useEffect(() => void openFirst(), []);
  useEffect(() => void followUrl(), [params]);
  const paged = space.value !== undefined && space.value.mode !== "none";
  return (
    <>
      <FileChoice />
      {dump.value !== undefined && <DumpFacts dump={dump.value} />}
      {dump.value !== undefined && <SpaceSection dump={dump.value} />}
      {paged && <AddressMap key={space.value!.id} space={space.value!} />}
      {paged && <RangeList key={`list ${space.value!.id}`} space={space.value!} />}
      {paged && <PageSection key={`page ${space.value!.id}`} space={space.value!} />}
    </>
  );
}
