// An example: copy it, and the policy beside it.
using 'main.bicep'

param policyName = 'nightly'
param policy = loadTextContent('nightly.json')
param resourceGroupName = 'rg-snapfreeze'
param machineGroups = ['rg-db']
param image = 'registry.example.org/snapfreeze-job:0.1.0'
param actionGroups = []
