import { type Row, table } from "../table.ts";

/** One row of the table: the cost of one unit of work. Processor time is in microseconds per unit. */
export type Figure = {
  name: string;
  perSecond: number | null;
  /** Of the Node process under test. */
  cpu?: number | null;
  /** Of Postgres with all its backends. */
  postgres?: number | null;
  p50Ms?: number | null;
  p95Ms?: number | null;
  p99Ms?: number | null;
  note?: string;
  /** The rate was given, so it is not a result and has no ratio. */
  isPaced?: boolean;
};

/** Rows that do the same work. The first is the reference of the ratios. */
export type Group = { work: string; figures: Figure[] };

const heads = [
  ...["work", "who", "per second", "CPU us", "Postgres us", "p50 ms", "p95 ms", "p99 ms"],
  ...["speed ratio", "CPU ratio", "with Postgres", ""],
];

export function tableOf(title: string, groups: readonly Group[]): string {
  return table(title, heads, groups.flatMap(rowsOf));
}

function rowsOf({ work, figures }: Group): Row[] {
  const [first] = figures;
  return figures.map((figure, place) => {
    const { perSecond, cpu = null, postgres = null, p50Ms = null, p95Ms = null, p99Ms = null } = figure;
    const ratios = [
      figure.isPaced ? null : ratio(perSecond, first!.perSecond),
      ratio(cpu, first!.cpu),
      ratio(together(figure), together(first!)),
    ];
    const latencies = [p50Ms, p95Ms, p99Ms];
    return [place === 0 ? work : "", figure.name, perSecond, cpu, postgres, ...latencies, ...ratios, figure.note ?? ""];
  });
}

const ratio = (one: number | null | undefined, other: number | null | undefined) =>
  one == null || other == null ? null : one / other;

const together = ({ cpu, postgres }: Figure) => (cpu == null || postgres == null ? null : cpu + postgres);
