{
  # node-gyp only starts CMake here. CMake's own folder is .build/cmake, outside build/, which `node-gyp rebuild` empties.
  'targets': [
    {
      'target_name': 'ternion',
      'type': 'none',
      'actions': [
        {
          'action_name': 'cmake',
          'message': 'Building ternion.node with CMake',
          'inputs': ['CMakeLists.txt'],
          'outputs': ['build/Release/ternion.node'],
          'action': ['node', 'scripts/build.mjs', '--native', '--force', '--node-include', '<(node_root_dir)/include/node'],
        },
      ],
    },
  ],
}
