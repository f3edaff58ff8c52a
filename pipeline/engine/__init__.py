"""The engine: one run, its steps, and what brings renditions in step.

``clusters``     workers on the nodes of a cluster, as the settings want them
``compare``      comparing the files of ``output/`` with the rows that describe them
``context``      the context of one run: its options, counts, clock and workers, handed to every
                 step
``difference``   how folders and files differ from their tables, and what a dry run expects of
                 them
``generation``   generation: whether the database knows all that was done to the output folder
``gone``         folders of recipes that are gone with all their renditions, as where a disk is
                 not mounted
``history``      history: what the last runs did. A run that found nothing to do writes nothing
``holding``      holding: what looks like blocked content has no rendition before a person has
                 decided
``known_folders``  the folders that a database belongs to: its rows must never meet the files of
                 another project
``matching``     the objects of a bucket matched with the rows of renditions
``outputs``      the rows of what is made, each in its table: renditions, and the values of
                 features
``own_batch``    own steps that work record by record, in chunks
``own_step``     what all own steps have in common: steps that a user declares
``own_steps``    own steps over whole tables, and how a step becomes an own step
``pending``      what is pending: the change query joined with all that is known of each
                 rendition, in pages
``placing``      the places below ``output/`` that finished files take
``progress``     what steps report while they work; ``cli/progress.py`` shows it
``publish``      publishing: finished renditions take their place in ``output/``, then their rows
                 are written
``recipe_step``  loading ``recipes.toml`` into its table: a row per recipe, written only where one
                 changed
``recovery``     what an interrupted run leaves behind, and how the next one repairs it
``render_step``  the render step: originals x recipes, and what is pending of each source
``rendering``    what is pending goes to the workers, what they made is published and recorded
``report``       what a run did, in numbers, and in words for the person who started it
``reuse``        reuse: originals with the same bytes share what was made of one of them
``run``          one run of the whole pipeline: recover, then every declared step in its order,
                 then count
``scan``         the scan: the folder of originals against the table of originals, both walked in
                 one order
``sources``      where originals come from, and what is special about those of each source
``stored``       the rows of originals of the input folder, in the order of their keys
``step``         a step of Lockstep: it works inside a run, repairs what an interrupted one left,
                 and says what it would do
``timings``      how long renditions took: a histogram, which a run fills and its report carries
``unmounted``    telling an unmounted disk from an intended removal: what is gone with its disk is
                 not deleted
``urgent``       urgent work within a run: what changed in the input folder waits for no backlog
``verdicts``     what happens to each rendition, and why: the rules of a run, of a dry run and of
                 ``explain``
"""
