"""All that a config file and a command line can say, as frozen dataclasses.

    config = from_mapping(TrainConfig, load_yaml(Path("configs/emo18_emodb.yaml")), "that file")
    config.training.learning_rate

One file for each command, and one for each section that a file may have.
"""

from jaxser.config.adversarial import AdversarialConfig as AdversarialConfig
from jaxser.config.attack import AttackCommandConfig as AttackCommandConfig
from jaxser.config.attack import AttackedCorpusConfig as AttackedCorpusConfig
from jaxser.config.attack import NamedAttack as NamedAttack
from jaxser.config.attack import as_params as as_params
from jaxser.config.command_line import parse_command as parse_command
from jaxser.config.corpus import CorpusConfig as CorpusConfig
from jaxser.config.features import FeaturesConfig as FeaturesConfig
from jaxser.config.generator import GeneratorConfig as GeneratorConfig
from jaxser.config.reading import from_mapping as from_mapping
from jaxser.config.reading import load_yaml as load_yaml
from jaxser.config.reading import to_mapping as to_mapping
from jaxser.config.train import TrainConfig as TrainConfig
from jaxser.config.training import ModelConfig as ModelConfig
from jaxser.config.training import TrainingConfig as TrainingConfig
