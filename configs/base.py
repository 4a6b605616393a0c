"""What all experiments share: SiCL with the published hyper-parameters (`algorithm.md`)."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """The published settings; a data set's own file changes what its authors changed."""
    return ml_collections.ConfigDict(
        {
            "method": "sicl",
            # 'released' computes what the published code computes, 'paper' what the formulas say.
            "compat": "released",
            "seed": 0,
            "data": {
                "name": "prcc",
                "dir": "data",
                "image_size": (256, 128),
                # 'silhouette' (person or not) or 'parsing' (luminance of the parser's palette).
                "mask_mode": "silhouette",
                # Memory for images on each device, in GB; larger data are fed from the host.
                # 0 is 40 % of what the device has.
                "device_budget_gb": 0.0,
            },
            "model": {
                "block": "bottleneck",
                "stage_sizes": (3, 4, 6, 3),
                "width": 64,
                "last_stride": 1,
                # A file of published weights, "imagenet" (from the Hugging Face cache), or "".
                "pretrained": "",
                # 'auto' is bfloat16 on accelerators and float32 on CPUs.
                "dtype": "auto",
            },
            "memory": {"momentum": 0.2, "temperature": 0.05},
            "clustering": {
                "k1": 30,
                "k2": 6,
                "eps": 0.6,
                "eps_gap": 0.02,
                "min_samples": 4,
                "refine": True,
                "ratio": 1.0,
            },
            # Neighbour clusters at the end of the curriculum; 0 switches the neighbour loss off.
            "neighbors": {"num": 5},
            # False trains the RGB stream alone.
            "silhouettes": True,
            "augment": {
                "flip": 0.5,
                "pad": 10,
                "erase": 0.5,
                "erase_area": (0.02, 0.4),
                "erase_aspect": (0.3, 1 / 0.3),
            },
            "epochs": 60,
            "steps_per_epoch": 400,
            "batch_size": 64,
            "num_instances": 4,
            "learning_rate": 3.5e-4,
            "weight_decay": 5e-4,
            "lr_step": 20,
            "lr_gamma": 0.1,
            # Steps in one compiled call; 0 chooses 1 on CPUs and 50 on accelerators.
            "steps_per_call": 0,
            "embed_batch_size": 256,
            # Test every so many epochs, and every epoch after `always_after`.
            "evaluate": {"before": True, "every": 5, "always_after": 30},
            # Checkpoints within an epoch, every so many steps; 0: at the end of epochs only.
            "checkpoint_every_steps": 0,
        }
    )
