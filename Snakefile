# physiglot: from the simulation of a physical system to the tables and figures of the papers.
# Rules: rules/*.smk; functions: rules/common.smk; configuration: config.yaml (see docs/add_a_study.md).

from snakemake.utils import min_version

min_version("9.27")


report: "docs/captions/workflow.rst"


# A file of --configfile that has studies stands alone; --config is laid over either.
if not ("base" in config or workflow.overwrite_configfiles and "studies" in config):

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/targets.smk"
include: "rules/after.smk"
include: "rules/papers.smk"
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
    # A stage knows one output as finished; with several (the table) it runs again.
    processes.take_over(MARK, (job.output[0] for job in workflow.dag.needrun_jobs() if len(job.output) == 1))


onsuccess:
    publish()


onerror:
    publish()
