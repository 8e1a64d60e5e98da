// Workflows as a user of the SDK would write them. Each shows one behaviour, and its test says what must come out.
import * as wf from '@temporalio/workflow';
import type * as activities from './activities';

const { greet, refuse, elsewhere } = wf.proxyActivities<typeof activities>({ startToCloseTimeout: '20s' });
const { flaky, resume } = wf.proxyActivities<typeof activities>({
  startToCloseTimeout: '20s',
  retry: { initialInterval: '100ms', backoffCoefficient: 1 },
});
const { greet: greetLocally, flaky: flakyLocally } = wf.proxyLocalActivities<typeof activities>({
  startToCloseTimeout: '5s',
  retry: { initialInterval: '50ms', backoffCoefficient: 1 },
});

export const addItem = wf.defineSignal<[string]>('addItem');
export const leave = wf.defineSignal('leave');
export const items = wf.defineQuery<string[]>('items');
export const setCount = wf.defineUpdate<number, [number]>('setCount');
export const slowCount = wf.defineUpdate<number, [number]>('slowCount');

export async function greeting(name: string): Promise<string> {
  return greet(name);
}

export async function retries(failures: number): Promise<number> {
  return flaky(failures);
}

export async function refused(): Promise<void> {
  await refuse();
}

export async function resumed(): Promise<number> {
  return resume(4);
}

export async function completedElsewhere(): Promise<string> {
  return elsewhere();
}

/** Several timers at once; returns them in the order in which they fired. */
export async function timers(milliseconds: number[]): Promise<number[]> {
  const fired: number[] = [];
  await Promise.all(milliseconds.map(async (ms) => {
    await wf.sleep(ms);
    fired.push(ms);
  }));
  return fired;
}

/** Gathers what signals bring until it is told to leave. */
export async function basket(): Promise<string[]> {
  const kept: string[] = [];
  let open = true;
  wf.setHandler(addItem, (item) => void kept.push(item));
  wf.setHandler(leave, () => void (open = false));
  wf.setHandler(items, () => kept);
  await wf.condition(() => !open);
  return kept;
}

/** Updates with a validator: one is answered at once, one after an activity. */
export async function counter(): Promise<number> {
  let count = 0;
  let open = true;
  const validator = (to: number) => {
    if (to < 0) throw wf.ApplicationFailure.create({ message: 'below zero', type: 'Negative' });
  };
  wf.setHandler(setCount, (to) => {
    const before = count;
    count = to;
    return before;
  }, { validator });
  wf.setHandler(slowCount, async (to) => {
    await greet('counter');
    count += to;
    return count;
  }, { validator });
  wf.setHandler(leave, () => void (open = false));
  await wf.condition(() => !open && wf.allHandlersFinished());
  return count;
}

/** Waits for ever; cleans up when it is cancelled. */
export async function cancellable(): Promise<string> {
  try {
    await wf.sleep('1 hour');
    return 'slept';
  } catch (error) {
    if (!wf.isCancellation(error)) throw error;
    await wf.CancellationScope.nonCancellable(() => greet('the end'));
    throw error;
  }
}

/** Cancels an activity that runs, and waits for its word. */
export async function cancelsActivity(): Promise<string> {
  const { untilCancelled } = wf.proxyActivities<typeof activities>({
    startToCloseTimeout: '20s',
    heartbeatTimeout: '5s',
    cancellationType: wf.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  });
  const scope = new wf.CancellationScope();
  const running = scope.run(() => untilCancelled());
  await wf.sleep(300);
  scope.cancel();
  try {
    return await running;
  } catch (error) {
    return wf.isCancellation(error) ? 'cancelled' : 'failed';
  }
}

/** A run for each number down to zero; a memo is carried along. */
export async function countdown(from: number): Promise<string> {
  if (from > 0) return wf.continueAsNew<typeof countdown>(from - 1);
  const info = wf.workflowInfo();
  return `${info.memo?.purpose}: ${info.firstExecutionRunId !== info.runId}`;
}

/** Children at once, one of which fails; then one that is signalled and one that is cancelled. */
export async function parent(names: string[]): Promise<string[]> {
  const told = await Promise.all(names.map((name) => wf.executeChild(greeting, { args: [name] })));
  try {
    await wf.executeChild(refused, {});
  } catch (error) {
    const cause = error instanceof wf.ChildWorkflowFailure ? error.cause : undefined;
    const root = cause instanceof wf.ActivityFailure ? cause.cause : undefined;
    told.push(root instanceof wf.ApplicationFailure ? `${root.type}` : 'no cause');
  }
  const gathering = await wf.startChild(basket, {});
  await gathering.signal(addItem, 'from the parent');
  await wf.getExternalWorkflowHandle(gathering.workflowId).signal(leave);
  told.push(...(await gathering.result()));
  const scope = new wf.CancellationScope();
  const cancelled = await scope.run(() => wf.startChild(cancellable, {}));
  scope.cancel();
  try {
    await cancelled.result();
  } catch (error) {
    told.push(wf.isCancellation(error) ? 'cancelled' : 'failed');
  }
  return told;
}

/** Steps that leave only markers. */
export async function localSteps(): Promise<string> {
  const said = await greetLocally('local');
  return `${said} ${await flakyLocally(2)}`;
}

/** Code that changed while runs were open. */
export async function patched(): Promise<string> {
  const first = wf.patched('better') ? 'new' : 'old';
  await wf.sleep(10);
  return first;
}

/** Fails until its third attempt. */
export async function failsTwice(): Promise<number> {
  const { attempt } = wf.workflowInfo();
  if (attempt < 3) throw wf.ApplicationFailure.create({ message: `attempt ${attempt}`, type: 'Again' });
  return attempt;
}

/** Its activity fails once, and its second attempt would be an hour away. */
export async function patient(): Promise<number> {
  const activity = wf.proxyActivities<typeof activities>({ startToCloseTimeout: '20s', retry: { initialInterval: '1 hour' } });
  return activity.flaky(1);
}

/** Many turns, for a server that is killed meanwhile. */
export async function longWay(turns: number): Promise<number> {
  let sum = 0;
  for (let turn = 0; turn < turns; turn++) {
    await wf.sleep(50);
    sum += (await greet(`${turn}`)).length;
  }
  return sum;
}
