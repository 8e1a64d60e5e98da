// Workflows of the TypeScript SDK against a dev server that the SDK starts, as a user's tests would have it.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  ActivityFailure,
  ApplicationFailure,
  Client,
  Connection,
  WithStartWorkflowOperation,
  WorkflowFailedError,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  type Workflow,
  type WorkflowHandle,
  type WorkflowHandleWithFirstExecutionRunId,
  type WorkflowStartOptions,
} from '@temporalio/client';
import {
  CancelledFailure,
  NamespaceNotFoundError,
  TerminatedFailure,
  WorkflowExecutionAlreadyStartedError,
} from '@temporalio/common';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker, type WorkflowBundle } from '@temporalio/worker';
import * as activities from './activities';
import { binary, KillableServer } from './server';
import * as wf from './workflows';

const TASK_QUEUE = 'typescript';
const BOUNDED = { timeout: 120_000 };

let env: TestWorkflowEnvironment;
let bundle: WorkflowBundle;
let worker: Worker;
let working: Promise<void>;
let client: Client;

before(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  env = await TestWorkflowEnvironment.createLocal({ server: { executable: { type: 'existing-path', path: binary() } } });
  bundle = await bundleWorkflowCode({ workflowsPath: require.resolve('./workflows'), logger: new DefaultLogger('ERROR') });
  worker = await Worker.create({
    connection: env.nativeConnection,
    taskQueue: TASK_QUEUE,
    workflowBundle: bundle,
    activities,
  });
  working = worker.run();
  client = env.client;
}, BOUNDED);

after(async () => {
  worker?.shutdown();
  await working;
  await env?.teardown();
}, BOUNDED);

type Options = Partial<WorkflowStartOptions>;

async function start<T extends Workflow>(type: T, args: Parameters<T>, options: Options = {}): Promise<WorkflowHandle<T>> {
  const all = { taskQueue: TASK_QUEUE, workflowId: `ts-${randomUUID()}`, ...options, args };
  return (await client.workflow.start(type, all as never)) as unknown as WorkflowHandle<T>;
}

/** The run that a start answered. */
function runOf(handle: WorkflowHandle): string {
  return (handle as WorkflowHandleWithFirstExecutionRunId).firstExecutionRunId;
}

async function run<T extends Workflow>(type: T, args: Parameters<T>, options: Options = {}) {
  return (await start(type, args, options)).result();
}

async function events(handle: WorkflowHandle): Promise<string[]> {
  const { events } = await handle.fetchHistory();
  return (events ?? []).map((event) => Object.keys(event).find((key) => key.endsWith('EventAttributes')) ?? '');
}

/** Of the API's enum PendingActivityState. */
const PendingState = { SCHEDULED: 1, STARTED: 2, PAUSED: 4 };

/** Waits until the workflow's activity is in this state at this attempt; answers its id. */
async function activityIs(handle: WorkflowHandle, attempt: number, state: number): Promise<string> {
  for (;;) {
    const [pending] = (await handle.describe()).raw.pendingActivities ?? [];
    if (pending?.attempt === attempt && pending.state === state) return pending.activityId ?? '';
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The deepest failure of an error. */
function root(error: unknown): unknown {
  let found = error;
  while (found instanceof Error && found.cause) found = found.cause;
  return found;
}

test('an activity completes, is retried, fails for good, goes on from its heartbeat', BOUNDED, async () => {
  assert.equal(await run(wf.greeting, ['Ada']), 'Hello, Ada!');
  assert.equal(await run(wf.retries, [2]), 3);
  const refused = await start(wf.refused, []);
  await assert.rejects(refused.result(), (error: unknown) => {
    assert.ok(error instanceof WorkflowFailedError && error.cause instanceof ActivityFailure);
    const cause = root(error);
    assert.ok(cause instanceof ApplicationFailure);
    assert.deepEqual([cause.message, cause.type, cause.nonRetryable, cause.details], ['not today', 'Refused', true, [{ code: 7 }]]);
    return true;
  });
  assert.ok((await run(wf.resumed, [])) >= 1);
});

test('an activity is completed from outside, by its id', BOUNDED, async () => {
  const handle = await start(wf.completedElsewhere, []);
  const activityId = await activityIs(handle, 1, PendingState.STARTED);
  await client.activity.complete({ workflowId: handle.workflowId, activityId }, 'from outside');
  assert.equal(await handle.result(), 'from outside');
});

test('an activity is cancelled and says so', BOUNDED, async () => {
  assert.equal(await run(wf.cancelsActivity, []), 'cancelled');
});

test('timers fire in their order', BOUNDED, async () => {
  assert.deepEqual(await run(wf.timers, [[600, 50, 300]]), [50, 300, 600]);
});

test('signals and queries', BOUNDED, async () => {
  const handle = await start(wf.basket, []);
  await handle.signal(wf.addItem, 'bread');
  await handle.signal(wf.addItem, 'salt');
  assert.deepEqual(await handle.query(wf.items), ['bread', 'salt']);
  await handle.signal(wf.leave);
  assert.deepEqual(await handle.result(), ['bread', 'salt']);
  assert.deepEqual(await handle.query(wf.items), ['bread', 'salt'], 'a closed workflow answers too');
});

test('a signal starts a workflow, and then only signals it', BOUNDED, async () => {
  const workflowId = `ts-${randomUUID()}`;
  const signal = (item: string) =>
    client.workflow.signalWithStart(wf.basket, {
      taskQueue: TASK_QUEUE, workflowId, signal: wf.addItem, signalArgs: [item],
    });
  const first = await signal('one');
  const second = await signal('two');
  assert.equal(first.signaledRunId, second.signaledRunId);
  await second.signal(wf.leave);
  assert.deepEqual(await second.result(), ['one', 'two']);
});

test('updates are answered, rejected, awaited later, known by their id', BOUNDED, async () => {
  const handle = await start(wf.counter, []);
  assert.equal(await handle.executeUpdate(wf.setCount, { args: [3], updateId: 'first' }), 0);
  assert.equal(await handle.executeUpdate(wf.setCount, { args: [9], updateId: 'first' }), 0, 'the same update');
  const before = (await handle.describe()).historyLength;
  await assert.rejects(handle.executeUpdate(wf.setCount, { args: [-1] }), (error: unknown) => {
    assert.ok(error instanceof WorkflowUpdateFailedError);
    const cause = root(error);
    assert.ok(cause instanceof ApplicationFailure && cause.type === 'Negative');
    return true;
  });
  assert.equal((await handle.describe()).historyLength, before, 'a rejected update leaves no event');
  const slow = await handle.startUpdate(wf.slowCount, { args: [4], waitForStage: 'ACCEPTED' });
  assert.equal(await slow.result(), 7);
  const several = [1, 2, 3].map((n) => handle.executeUpdate(wf.slowCount, { args: [n] }));
  await Promise.all(several);
  await handle.signal(wf.leave);
  assert.equal(await handle.result(), 13);
});

test('an update starts its workflow', BOUNDED, async () => {
  const begin = new WithStartWorkflowOperation(wf.counter, {
    workflowId: `ts-${randomUUID()}`, taskQueue: TASK_QUEUE, workflowIdConflictPolicy: 'USE_EXISTING',
  });
  const result = await client.workflow.executeUpdateWithStart(wf.setCount, { args: [5], startWorkflowOperation: begin });
  assert.equal(result, 0);
  const handle = await begin.workflowHandle();
  await handle.signal(wf.leave);
  assert.equal(await handle.result(), 5);
});

test('a workflow is cancelled and cleans up; another is terminated', BOUNDED, async () => {
  const cancelled = await start(wf.cancellable, []);
  await cancelled.cancel();
  await assert.rejects(cancelled.result(), (error: unknown) => error instanceof WorkflowFailedError && error.cause instanceof CancelledFailure);
  assert.ok((await events(cancelled)).includes('activityTaskCompletedEventAttributes'));
  const terminated = await start(wf.cancellable, []);
  await terminated.terminate('enough');
  await assert.rejects(terminated.result(), (error: unknown) => error instanceof WorkflowFailedError && error.cause instanceof TerminatedFailure);
  await assert.rejects(terminated.signal(wf.leave), WorkflowNotFoundError);
});

test('children complete, fail, are signalled and cancelled', BOUNDED, async () => {
  const told = await run(wf.parent, [['Ada', 'Bea']]);
  assert.deepEqual(told, ['Hello, Ada!', 'Hello, Bea!', 'Refused', 'from the parent', 'cancelled']);
});

test('a workflow continues as new and keeps its memo', BOUNDED, async () => {
  assert.equal(await run(wf.countdown, [2], { memo: { purpose: 'count' } }), 'count: true');
});

test('local activities, patches, retries of a workflow', BOUNDED, async () => {
  const local = await start(wf.localSteps, []);
  assert.equal(await local.result(), 'Hello, local! 3');
  assert.ok(!(await events(local)).includes('activityTaskScheduledEventAttributes'));
  assert.equal(await run(wf.patched, []), 'new');
  assert.equal(await run(wf.failsTwice, [], { retry: { initialInterval: '100ms', maximumAttempts: 4 } }), 3);
});

test('a reset run does its work again, with the signals that came since', BOUNDED, async () => {
  const handle = await start(wf.basket, []);
  assert.deepEqual(await handle.query(wf.items), [], 'the first workflow task is over');
  await handle.signal(wf.addItem, 'kept');
  while ((await handle.query(wf.items)).length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  const { runId } = await client.workflowService.resetWorkflowExecution({
    namespace: client.options.namespace,
    workflowExecution: { workflowId: handle.workflowId, runId: runOf(handle) },
    reason: 'again',
    workflowTaskFinishEventId: 4 as never,
    requestId: randomUUID(),
  });
  const again = client.workflow.getHandle(handle.workflowId, runId);
  await again.signal(wf.leave);
  assert.deepEqual(await again.result(), ['kept']);
  const first = client.workflow.getHandle(handle.workflowId, runOf(handle));
  assert.equal((await first.describe()).status.name, 'TERMINATED');
  await Worker.runReplayHistory({ workflowBundle: bundle }, await again.fetchHistory(), handle.workflowId);
});

test('a cron workflow runs again and again', BOUNDED, async () => {
  const handle = await start(wf.greeting, ['Ada'], { cronSchedule: '@every 1s' });
  const current = client.workflow.getHandle(handle.workflowId);
  while ((await current.describe()).runId === runOf(handle)) await new Promise((resolve) => setTimeout(resolve, 200));
  const first = client.workflow.getHandle(handle.workflowId, runOf(handle));
  assert.equal((await first.describe()).status.name, 'COMPLETED');
  await current.terminate();
});

test('a task queue shows who polls it', BOUNDED, async () => {
  assert.equal(await run(wf.greeting, ['Ada']), 'Hello, Ada!');
  for (const taskQueueType of [1, 2]) {
    const { pollers } = await client.workflowService.describeTaskQueue({
      namespace: client.options.namespace, taskQueue: { name: TASK_QUEUE }, taskQueueType,
    });
    assert.deepEqual(pollers?.map((poller) => poller.identity), [worker.options.identity]);
  }
});

test('an activity is paused between its attempts, and goes on when it is unpaused', BOUNDED, async () => {
  const handle = await start(wf.patient, []);
  await activityIs(handle, 2, PendingState.SCHEDULED);
  const of = { namespace: client.options.namespace, execution: { workflowId: handle.workflowId }, type: 'flaky' };
  await client.workflowService.pauseActivity({ ...of, reason: 'look first' });
  await activityIs(handle, 2, PendingState.PAUSED);
  await client.workflowService.unpauseActivity(of);
  assert.equal(await handle.result(), 2);
});

test('what goes too far is refused by name', BOUNDED, async () => {
  const handle = await start(wf.basket, []);
  await assert.rejects(start(wf.basket, [], { workflowId: handle.workflowId }), WorkflowExecutionAlreadyStartedError);
  await assert.rejects(handle.signal(wf.addItem, 'x'.repeat(2 * 1024 * 1024)), (error: unknown) => {
    assert.match(String(root(error)), /INVALID_ARGUMENT.*limit/);
    return true;
  });
  await handle.signal(wf.leave);
  assert.deepEqual(await handle.result(), [], 'nothing was added');
  await assert.rejects(client.workflow.getHandle('nobody').describe(), WorkflowNotFoundError);
  const elsewhere = new Client({ connection: client.connection, namespace: 'nowhere' });
  await assert.rejects(elsewhere.workflow.getHandle('nobody').describe(), NamespaceNotFoundError);
});

test('histories replay without error', BOUNDED, async () => {
  const parent = await start(wf.parent, [['Cleo']]);
  const counter = await start(wf.counter, []);
  await counter.executeUpdate(wf.slowCount, { args: [1] });
  await counter.signal(wf.leave);
  const handles = [parent, counter, await start(wf.localSteps, []), await start(wf.patched, [])];
  for (const handle of handles) {
    await handle.result();
    await Worker.runReplayHistory({ workflowBundle: bundle }, await handle.fetchHistory(), handle.workflowId);
  }
});

test('workflows go on while the server is killed and restarted', { timeout: 240_000 }, async () => {
  const directory = mkdtempSync(join(tmpdir(), 'mainstay-ts-'));
  const server = await KillableServer.start(join(directory, 'data'));
  try {
    const native = await NativeConnection.connect({ address: server.address });
    const own = await Worker.create({ connection: native, taskQueue: TASK_QUEUE, workflowBundle: bundle, activities });
    const ownRun = own.run();
    const connection = await Connection.connect({ address: server.address });
    const handles = [];
    for (let at = 0; at < 5; at++) {
      const options = { taskQueue: TASK_QUEUE, workflowId: `long-${at}`, args: [20] as [number] };
      handles.push(await new Client({ connection }).workflow.start(wf.longWay, options));
    }
    for (let kills = 0; kills < 2; kills++) {
      await new Promise((resolve) => setTimeout(resolve, 700));
      await server.kill();
      await server.start();
    }
    for (const handle of handles) {
      let sum;
      for (let tries = 0; sum === undefined; tries++) {
        sum = await handle.result().catch((error: unknown) => {
          if (tries === 20) throw error;
        });
      }
      assert.equal(sum, 20 * 'Hello, 0!'.length + 10);
    }
    own.shutdown();
    await ownRun;
    await native.close();
    await connection.close();
  } finally {
    await server.kill();
    rmSync(directory, { recursive: true, force: true });
  }
});
