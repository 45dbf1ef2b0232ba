"""`executor: physiglot`: Snakemake's own SLURM executor, where a job starts Snakemake once and its end is seen soon.

The plugin it is made of starts Snakemake in a job to start Snakemake by srun, and in a task of an array a third time;
it asks SLURM less and less often while nothing ends; and it holds an array back until every job of the rule is ready,
for ever if Snakemake may not run as many (its issue 473).
"""

import asyncio
import contextlib
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import snakemake_executor_plugin_slurm as slurm
from snakemake_executor_plugin_slurm import ExecutorSettings, common_settings
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

Jobs = list[JobExecutorInterface]


class Executor(slurm.Executor):
    def additional_general_args(self) -> str:
        """The Snakemake of a job runs it in place."""
        return "--executor local --jobs 1"

    async def sleep(self) -> None:
        """Between two questions to SLURM, unless the workflow ends meanwhile."""
        end = time.monotonic() + self.workflow.remote_execution_settings.seconds_between_status_checks
        while self.wait and time.monotonic() < end:
            await asyncio.sleep(0.2)

    def run_jobs(self, jobs: Jobs) -> None:
        """The ready jobs of a rule as arrays, if the profile says so of the rule and there are several."""
        with contextlib.suppress(RuntimeError):
            self._main_event_loop = asyncio.get_running_loop()
        rules: dict[str, Jobs] = defaultdict(list)
        for job in jobs:
            rules[job.name if not job.is_group() and self.array_jobs & {job.name, "all"} else ""].append(job)
        for job in rules.pop("", []):
            self._submit_job(job)
        for ready in rules.values():
            for i in range(0, len(ready), self.max_array_size):
                part = ready[i : i + self.max_array_size]
                self._submit_array_jobs(part) if len(part) > 1 else self._submit_job(part[0])

    def run_array_jobs(self, jobs: Jobs) -> None:
        """Submit an array; each of its tasks finds its command in the one script by its number."""
        try:
            logs = self.slurm_logdir / f"rule_{jobs[0].name}"
            number = self._submit_script(jobs, logs)
        except Exception as error:
            said = f"The job array could not be submitted: {getattr(error, 'stderr', None) or error}"
            for job in jobs:
                self._report_job_error_threadsafe(SubmittedJobInfo(job), said)
            return
        self.logger.info(f"SLURM job array {number}: {len(jobs)} jobs of rule {jobs[0].name} (logs: {logs})")
        for task, job in enumerate(jobs):
            name = f"{number}_{task}"
            aux = {"slurm_logfile": logs / f"{name}.log"}
            self._report_job_submission_threadsafe(SubmittedJobInfo(job, external_jobid=name, aux=aux))

    def _submit_script(self, jobs: Jobs, logs: Path) -> str:
        """The number of the array."""
        logs.mkdir(parents=True, exist_ok=True)
        first = jobs[0]
        how = {
            "run_uuid": self.run_uuid,
            "slurm_logfile": logs / "%A_%a.log",
            "comment_str": f"rule_{first.name}",
            "account": next(self.get_account_arg(first)),
            "partition": self.get_partition_arg(first),
            "workdir": self.workflow.workdir_init,
        }
        call = slurm.get_submit_command(
            first, how, settings=self.workflow.executor_settings, failed_nodes=self._failed_nodes
        )
        call += f"{slurm.set_gres_string(first)} --array=0-{len(jobs) - 1} /dev/stdin"
        cases = "".join(f"{task}) {self.format_job_exec(job)};;\n" for task, job in enumerate(jobs))
        script = f'#!/bin/sh\ncase "$SLURM_ARRAY_TASK_ID" in\n{cases}esac\n'
        done = subprocess.run(call, shell=True, input=script, capture_output=True, text=True, check=True)
        return done.stdout.strip().split(";")[0]
