/** ternion/bench: how fast a model runs here, beside other programs, in one run. */
export { benchTests, benchmark } from './benchmark.js';
export type { BenchOptions, BenchTest, PeerSettings } from './benchmark.js';
export { chart, panels } from './chart.js';
export type { Panel } from './chart.js';
export { machine, readBandwidth } from './machine.js';
export type { Machine } from './machine.js';
export { Skipped, alternate, judged, pairedRatio, summarize } from './measure.js';
export type { Ratio, Sample, Samples, Summary } from './measure.js';
export { llamaBatchedBench, llamaBench } from './peer.js';
export type { Peer, ProgramOptions } from './peer.js';
export type { BenchReport, Comparison, Figure, Missing, Unit } from './report.js';
export type { SubjectOptions } from './subject.js';
export { changes, table } from './table.js';
