# physiglot: from the simulation of a physical system to the tables and figures of the papers.
# Rules: rules/*.smk; functions: rules/common.smk; configuration: config.yaml (see docs/add_a_study.md).

from snakemake.utils import min_version

min_version("9.27")


report: "docs/captions/workflow.rst"


if not config:

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/after.smk"
include: "rules/data.smk"
include: "rules/learn.smk"
include: "rules/report.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        [outputs_of(paper) for paper in CONFIG.papers],


onstart:
    processes.take_over(MARK, (file for job in workflow.dag.needrun_jobs() for file in job.output))


onsuccess:
    publish()


onerror:
    publish()
